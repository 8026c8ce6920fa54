import Foundation
import PEFTCheckpoints
import TestSupport
import Testing
import Torch

@Suite struct SafetensorsFileTests {
    @Test func readsEveryElementType() throws {
        let file = try SafetensorsFile(Checkout.fixture("checkpoints/dtypes.safetensors"))
        let dtypes = [
            "z.0": SafetensorsDType.bool, "z.1": .uint8, "z.2": .int8, "z.3": .float8e5m2,
            "z.4": .float8e4m3, "z.5": .int16, "z.6": .uint16, "z.7": .float16, "z.8": .bfloat16,
            "z.9": .int32, "z.10": .uint32, "z.11": .float32, "z.12": .complex64, "z.13": .float64,
            "z.14": .int64, "z.15": .uint64,
        ]
        for (name, dtype) in dtypes {
            let entry = try #require(file.entry(name))
            #expect(entry.dtype == dtype)
            #expect(entry.shape == [2, 3])
            guard dtype.dtype != nil else { continue }
            #expect(try file.tensor(entry).to(.float32).floats() == [0, 1, 0, 1, 0, 1])
        }
        #expect(file.entries.count == dtypes.count + 3)
        #expect(file.metadata == ["format": "pt"])
        #expect(try file.tensor(#require(file.entry("scalar"))).item() == 2)
        #expect(try file.tensor(#require(file.entry("empty"))).shape == [0, 3])
        #expect(file.entry("quote \"\\/é\n\u{1} <>")?.shape == [1])
        #expect(file.entry("none") == nil)
    }

    @Test func tensorsOutliveTheFile() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "file")
        let values = (0..<100_000).map { Float($0) }
        try SafetensorsWriter.write(
            [SafetensorsTensor(name: "a", try Tensor(values, shape: [100, 1_000]))], to: url)
        var file: SafetensorsFile? = try SafetensorsFile(url)
        weak let mapping = file?.file
        var tensor: Tensor? = try file?.tensor(#require(file?.entry("a")))
        file = nil
        #expect(mapping != nil)
        #expect(try tensor?.floats() == values)
        tensor = nil
        #expect(mapping == nil)
    }

    @Test func dataOffTheAlignmentIsCopied() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.writeSafetensors(
            header: """
                {"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},\
                "f":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}
                """, data: Data([7, 0, 0, 0x80, 0x3F]), "file")
        let file = try SafetensorsFile(url)
        #expect(try file.tensor(#require(file.entry("f"))).floats() == [1])
    }

    @Test func elementTypesWithoutTensorsAreNamed() throws {
        let url = Checkout.fixture("checkpoints/dtypes.safetensors")
        let file = try SafetensorsFile(url)
        let entry = try #require(file.entry("z.4"))
        #expect(
            checkpointError { _ = try file.tensor(entry) }?.description
                == "\(url.path): tensor z.4 has the element type F8_E4M3; "
                + "convert it to F32, F16 or BF16")
    }

    // MARK: - Damage

    /// Every length below the full one gives one error with both sizes.
    @Test func truncation() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let whole = try Data(
            contentsOf: Checkout.fixture("checkpoints/adapter/adapter_model.safetensors"))
        let header = 8 + Int(whole[0]) + Int(whole[1]) << 8
        for length in [1, 7, 8, 9, header - 1, header, header + 1, whole.count - 1] {
            let url = try folder.write(whole.prefix(length), "file")
            let expected = length < 8 ? 8 : length < header ? header : whole.count
            let error = checkpointError { _ = try SafetensorsFile(url) }
            #expect(
                error?.description
                    == "\(url.path): truncated: expected \(expected) bytes, found \(length); "
                    + "copy or download the file again")
        }
    }

    @Test func trailingBytes() throws {
        let whole = try Data(
            contentsOf: Checkout.fixture("checkpoints/adapter/adapter_model.safetensors"))
        try expect(
            whole + Data([0]),
            "1 bytes follow the last tensor: expected \(whole.count) bytes, "
                + "found \(whole.count + 1); the file is damaged: copy or download it again")
    }

    @Test func otherFormats() throws {
        try expect(
            Data("PK\u{3}\u{4}........".utf8),
            "not a safetensors file: its first 8 bytes give a header of 3327647949844073296 "
                + "bytes, expected 2 to 100000000; check that this is the right file, "
                + "or download it again")
        try expect(
            Data(repeating: 0, count: 64),
            "not a safetensors file: its first 8 bytes give a header of 0 bytes, "
                + "expected 2 to 100000000; check that this is the right file, or download it again"
        )
    }

    struct Damage: CustomTestStringConvertible, Sendable {
        let name: String
        let header: String
        let message: String
        var testDescription: String { name }
    }

    private static let notJSON =
        "the safetensors header is not valid JSON of tensor entries; "
        + "the file is damaged: copy or download it again"
    private static let remedy = "the file is damaged: copy or download it again"

    @Test(arguments: [
        Damage(name: "no object", header: "[]", message: notJSON),
        Damage(name: "space first", header: " {}", message: notJSON),
        Damage(name: "cut JSON", header: #"{"a":{"dtype":"F32""#, message: notJSON),
        Damage(
            name: "no shape", header: #"{"a":{"dtype":"F32","data_offsets":[0,4]}}"#,
            message: notJSON),
        Damage(
            name: "metadata not strings", header: #"{"__metadata__":{"a":1}}"#, message: notJSON),
        Damage(
            name: "unknown type",
            header: #"{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}}"#,
            message: "tensor a has the unknown element type F4; known are U64, I64, F64, C64, F32, "
                + "U32, I32, BF16, F16, U16, I16, F8_E8M0, F8_E4M3, F8_E5M2, I8, U8, BOOL"),
        Damage(
            name: "offsets reversed",
            header: #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            message: "tensor a: its data_offsets [4, 0] are not [begin, end]; \(remedy)"),
        Damage(
            name: "negative extent",
            header: #"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            message: "tensor a: its shape [-1] is not possible; \(remedy)"),
        Damage(
            name: "overflowing shape",
            header: #"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}"#,
            message: "tensor a: its shape [4611686018427387904, 4] is not possible; \(remedy)"),
        Damage(
            name: "size differs",
            header: #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            message:
                "tensor a: F32 [2] takes 8 bytes, but its data_offsets [0, 4] hold 4; \(remedy)"),
        Damage(
            name: "hole",
            header: #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
            message: "tensor a: its data begins at 1, expected 0: it leaves a hole before it; "
                + remedy),
        Damage(
            name: "overlap",
            header: #"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"#
                + #""b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
            message:
                "tensor b: its data begins at 1, expected 2: it overlaps the tensor before it; "
                + remedy),
    ])
    func damagedHeader(_ damage: Damage) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.writeSafetensors(
            header: damage.header, data: Data([0, 0, 0, 0]), "file")
        #expect(
            checkpointError { _ = try SafetensorsFile(url) }?.description
                == "\(url.path): \(damage.message)")
    }

    private func expect(_ data: Data, _ message: String) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(data, "file")
        #expect(
            checkpointError { _ = try SafetensorsFile(url) }?.description
                == "\(url.path): \(message)")
    }
}
