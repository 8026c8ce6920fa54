import Foundation
import PEFT
import PEFTLayers
import TestSupport
import Testing
import TrainingTestSupport

/// The built command with kernels of each instruction set, forced, and on emulated processors that have no other.
@Suite(.serialized) struct InstructionSetProcessTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
        try workspace.write(rows: TinyRows.make(8))
    }

    private func arguments(
        _ command: String, _ output: String, dtype: String, quantize: String = "nf4"
    ) -> [String] {
        [
            command, "--model", TinyModel.grouped, "--data", workspace.path("rows.jsonl"),
            "--output-dir", workspace.path(output), "--dtype", dtype, "--quantize", quantize,
            "--lora-r", "4",
            "--lora-dropout", "0.1", "--max-steps", "3", "--logging-steps", "1",
            "--per-device-train-batch-size", "2", "--threads", "1",
        ]
    }

    /// Runs the command with the choice of a set, on this processor or an emulated one.
    private func run(
        _ arguments: [String], set: String?, processor: String? = nil
    ) throws -> RunningProgram.Result {
        var environment = ["PEFT_INSTRUCTION_SET": set ?? ""]
        var command = [RunningProgram.url(of: "peft").path] + arguments
        if let processor {
            // A program that starts itself again would leave the emulator; with these set it has no reason to.
            environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "64"
            command = [Self.emulator, "-cpu", processor] + command
        }
        return try RunningProgram(
            URL(filePath: command[0]), Array(command.dropFirst()), environment: environment
        ).finish()
    }

    private func losses(
        _ output: String, dtype: String, quantize: String = "nf4", set: String?,
        processor: String? = nil
    ) throws -> [Double] {
        let result = try run(
            arguments("train", output, dtype: dtype, quantize: quantize), set: set,
            processor: processor)
        try #require(result.status == 0, "\(result.err)")
        return try RunFiles.metric("loss", in: workspace.path(output))
    }

    // MARK: - Forced

    /// Kernels without products have the same bits on all sets, and libtorch alone multiplies with a dense base in float32.
    @Test func float32LossesOfADenseBaseAreThoseOfThePortableKernels() throws {
        let expected = try losses("portable", dtype: "float32", quantize: "none", set: "portable")
        #expect(expected.count == 3 && expected.allSatisfy(\.isFinite))
        for set in InstructionSet.allCases where set != .portable && set.isSupported {
            let found = try losses(set.name, dtype: "float32", quantize: "none", set: set.name)
            #expect(found == expected, "\(set.name)")
        }
    }

    /// Kernels of float32 products have the same bits on all sets that have them.
    @Test(
        .enabled(if: InstructionSet.avx2.isSupported, "this processor has no fused products"),
        arguments: [
            ("float32", [InstructionSet.avx512, .avx512bf16], Tolerance.trainingLoss),
            ("bfloat16", [.avx512], Tolerance.bfloat16),
        ])
    func lossesAreAlikeWhereFloat32NumbersAreMultiplied(
        dtype: String, others: [InstructionSet], tolerance: Double
    ) throws {
        func losses(_ set: InstructionSet) throws -> [Double] {
            try self.losses(set.name, dtype: dtype, set: set.name)
        }
        let expected = try losses(.avx2)
        #expect(expected.count == 3 && expected.allSatisfy(\.isFinite))
        let portable = try losses(.portable)
        #expect(expected != portable, "the sets add in another order: was one forced?")
        #expect(error(expected, portable) < tolerance)
        for set in others where set.isSupported {
            #expect(try losses(set) == expected, "\(set.name)")
        }
    }

    @Test(
        .enabled(
            if: InstructionSet.avx512bf16.isSupported, "no products of bfloat16 numbers here"))
    func bfloat16ProductsAreNearFloat32Ones() throws {
        let expected = try losses("avx2", dtype: "bfloat16", set: "avx2")
        let found = try losses("best", dtype: "bfloat16", set: "avx512bf16")
        #expect(found != expected, "avx512bf16 rounds where the others do not: was it forced?")
        #expect(error(found, expected) < Tolerance.bfloat16)
    }

    private func error(_ found: [Double], _ expected: [Double]) -> Double {
        Tolerance.relativeError(found.map(Float.init), expected.map(Float.init))
    }

    @Test func doctorSaysWhichKernelsCompute() throws {
        let result = try run(arguments("doctor", "none", dtype: "float32"), set: "portable")
        #expect(result.status == 0, "\(result.err)")
        let fastest = InstructionSet.fastest
        let line =
            fastest == .portable
            ? "kernels for portable"
            : "kernels for portable, by PEFT_INSTRUCTION_SET; the fastest here are for \(fastest.name)"
        #expect(result.out.hasPrefix("ok   processor     \(line)\n"), "\(result.out)")
    }

    @Test(arguments: ["train", "doctor", "plan", "launch"])
    func aWrongNameIsOneErrorBeforeAnythingIsRead(command: String) throws {
        let rest = arguments(command == "launch" ? "train" : command, "none", dtype: "float32")
            .map { $0 == TinyModel.grouped ? "/no/such/model" : $0 }
        let result = try run(
            command == "launch" ? ["launch", "--nproc", "2", "--"] + rest : rest, set: "avx3")
        #expect(result.status == 1)
        #expect(result.out == "")
        let names = InstructionSet.allCases.filter(\.isSupported).map(\.name)
        #expect(
            result.err
                == "peft: error: PEFT_INSTRUCTION_SET: expected one of "
                + "\(names.joined(separator: ", ")), found 'avx3'; choose one of these, or unset "
                + "PEFT_INSTRUCTION_SET for the fastest\n")
        #expect(!FileManager.default.fileExists(atPath: workspace.path("none")))
    }

    // MARK: - Emulated

    private static let emulator = "/usr/bin/qemu-x86_64"
    private static let hasEmulator: Bool = {
        #if arch(x86_64)
            FileManager.default.isExecutableFile(atPath: emulator)
        #else
            false
        #endif
    }()

    /// A processor without AVX, and one with AVX2 but without AVX512: instructions that it lacks end a program by a signal.
    @Test(
        .enabled(if: hasEmulator, "no qemu-x86_64 here: make emulator"),
        arguments: [("Nehalem", InstructionSet.portable), ("Haswell", .avx2)])
    func trainsOnAProcessorThatHasNoMore(processor: String, set: InstructionSet) throws {
        let doctor = try run(
            arguments("doctor", "none", dtype: "bfloat16"), set: nil, processor: processor)
        #expect(doctor.status == 0, "\(doctor.err)")
        #expect(doctor.out.hasPrefix("ok   processor     kernels for \(set.name)\n"))
        let found = try losses("emulated", dtype: "bfloat16", set: nil, processor: processor)
        let expected = try losses("forced", dtype: "bfloat16", set: "portable")
        #expect(found.count == 3)
        #expect(
            Tolerance.relativeError(found.map(Float.init), expected.map(Float.init))
                < Tolerance.bfloat16)
    }

    @Test(.enabled(if: hasEmulator, "no qemu-x86_64 here: make emulator"))
    func aSetThatTheProcessorLacksIsRefused() throws {
        let result = try run(
            arguments("train", "none", dtype: "float32"), set: "avx512", processor: "Haswell")
        #expect(result.status == 1)
        let errors = result.err.split(separator: "\n").filter { $0.hasPrefix("peft: ") }
        #expect(
            errors == [
                "peft: error: PEFT_INSTRUCTION_SET: this processor does not run avx512, it runs "
                    + "portable, avx2; choose one of these, or unset PEFT_INSTRUCTION_SET for the "
                    + "fastest"
            ])
    }
}
