import Foundation
import PEFTCheckpoints
import TestSupport
import Testing

@Suite struct GGUFFileTests {
    @Test func readsEveryMetadataType() throws {
        let metadata = try GGUFFile(fixture("metadata.gguf")).metadata
        let expected: [String: GGUFValue] = [
            "u8": .unsigned(255), "i8": .signed(-128), "u16": .unsigned(65_535),
            "i16": .signed(-32_768), "u32": .unsigned(4_294_967_295),
            "i32": .signed(-2_147_483_648), "f32": .float32(1e-5), "bool": .bool(true),
            "string": .string("é中🙂"), "u64": .unsigned(.max), "i64": .signed(.min),
            "f64": .float64(0.1), "strings": .array(.string(["a", "", "Ġé"])),
            "ints": .array(.signed([-1, 2, 3])), "floats": .array(.float32([0.5, -2])),
            "bools": .array(.bool([true, false])), "bytes": .array(.unsigned([0, 127, 255])),
            "arrays": .array(.array([.signed([1, 2]), .signed([3])])),
            "general.architecture": .string("llama"),
        ]
        #expect(metadata.values == expected)
        #expect(metadata.keys.first == "general.architecture")
        #expect(metadata.keys.count == expected.count)
    }

    @Test func typedAccess() throws {
        let metadata = try GGUFFile(fixture("metadata.gguf")).metadata
        #expect(metadata.int("u32") == 4_294_967_295)
        #expect(metadata.int("i64") == .min)
        #expect(metadata.int("u64") == nil)
        #expect(metadata.int("string") == nil)
        #expect(metadata.double("f32") == 1e-5)
        #expect(metadata.double("i8") == -128)
        #expect(metadata.bool("bool") == true)
        #expect(metadata.string("string") == "é中🙂")
        #expect(metadata.strings("strings") == ["a", "", "Ġé"])
        #expect(metadata.ints("ints") == [-1, 2, 3])
        #expect(metadata.ints("bytes") == [0, 127, 255])
        #expect(metadata.floats("floats") == [0.5, -2])
        #expect(metadata["none"] == nil)
    }

    @Test func listsTensors() throws {
        let file = try GGUFFile(fixture("llama-Q4_1.gguf"))
        #expect(file.version == 3)
        #expect(file.tensors.count == 20)
        let query = try #require(file.info("blk.1.attn_k.weight"))
        #expect(query.shape == [16, 32])
        #expect(query.type.name == "Q4_1")
        #expect(query.byteRange.count == 16 * 20)
        #expect(file.info("blk.0.attn_norm.weight")?.type.name == "F32")
        #expect(file.metadata.strings("tokenizer.ggml.tokens")?.count == 80)
        #expect(file.tensors.map(\.byteRange.upperBound).max() == file.file.sizeBytes)
    }

    @Test func versionTwoReadsTheSame() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let bytes = try Data(contentsOf: fixture("llama-Q8_0.gguf"))
        let file = try GGUFFile(try folder.write(bytes.replacing(at: 4, with: [2]), "v2.gguf"))
        let original = try GGUFFile(fixture("llama-Q8_0.gguf"))
        #expect(file.version == 2)
        #expect(file.tensors == original.tensors)
        #expect(file.metadata == original.metadata)
    }

    // MARK: - Damage

    /// A file cut anywhere is refused with an error that names it.
    @Test func truncation() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let whole = try Data(contentsOf: fixture("llama-Q4_0.gguf"))
        for length in Array(stride(from: 1, to: whole.count, by: 97)) + [whole.count - 1] {
            let url = try folder.write(whole.prefix(length), "cut.gguf")
            let error = checkpointError { _ = try GGUFFile(url) }
            #expect(error?.description.hasPrefix("\(url.path): ") == true, "\(length)")
        }
        let url = try folder.write(whole.prefix(whole.count - 1), "cut.gguf")
        #expect(
            checkpointError { _ = try GGUFFile(url) }?.description
                == "\(url.path): truncated: expected \(whole.count) bytes, "
                + "found \(whole.count - 1); copy or download the file again")
    }

    /// Whatever byte of the header is damaged, reading ends in a result or in an error, never in a trap.
    @Test func damagedBytesNeverTrap() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let whole = try Data(contentsOf: fixture("metadata.gguf"))
        var numErrors = 0
        for offset in whole.indices {
            let byte: UInt8 = [0, 0x7F, 0xFF][offset % 3]
            let url = try folder.write(whole.replacing(at: offset, with: [byte]), "x.gguf")
            if checkpointError({ _ = try GGUFFile(url) }) != nil { numErrors += 1 }
        }
        #expect(numErrors > 50)
    }

    struct Damage: CustomTestStringConvertible, Sendable {
        let name: String
        let offset: Int
        let bytes: [UInt8]
        let message: String
        var testDescription: String { name }
    }

    private static let remedy = "the file is damaged or cut off: copy or download it again"

    @Test(arguments: [
        Damage(
            name: "magic", offset: 0, bytes: [0x50],
            message: "not a GGUF file: it does not begin with \"GGUF\"; "
                + "check that this is the right file, or download it again"),
        Damage(
            name: "big-endian", offset: 4, bytes: [0, 0, 0, 3],
            message: "the GGUF file is big-endian; "
                + "convert it with llama.cpp's gguf_convert_endian.py"),
        Damage(
            name: "version", offset: 4, bytes: [1],
            message: "GGUF version 1, expected 2 or 3; "
                + "convert the model again with a current llama.cpp"),
        Damage(
            name: "tensor count", offset: 12, bytes: [1],
            message: "4294967296 tensors announced, but only 562 bytes follow; \(remedy)"),
        Damage(
            name: "key length", offset: 30, bytes: [1],
            message: "281474976710676 bytes of text announced, but only 546 bytes follow; \(remedy)"
        ),
        Damage(
            name: "text", offset: 32, bytes: [0xFF],
            message: "the text of 20 bytes at byte 32 is not UTF-8; \(remedy)"),
        Damage(
            name: "value type", offset: 52, bytes: [13],
            message: "unknown metadata type 13 at byte 52; \(remedy)"),
    ])
    func damagedHeader(_ damage: Damage) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let whole = try Data(contentsOf: fixture("metadata.gguf"))
        let url = try folder.write(
            whole.replacing(at: damage.offset, with: damage.bytes), "x.gguf")
        #expect(
            checkpointError { _ = try GGUFFile(url) }?.description
                == "\(url.path): \(damage.message)")
    }
}
