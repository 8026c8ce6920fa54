import Foundation
import Glibc
import PEFTCheckpoints
import TestSupport
import Testing
import Torch

@Suite struct SafetensorsWriterTests {
    /// Files of the safetensors library, read and written again, keep every byte.
    @Test(arguments: [
        "dtypes.safetensors", "llama-float32/model.safetensors", "llama-float16/model.safetensors",
        "adapter/adapter_model.safetensors", "adapter-bfloat16/adapter_model.safetensors",
    ])
    func bytesEqualThoseOfTheLibrary(_ name: String) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = try SafetensorsFile(Checkout.fixture("checkpoints/" + name))
        let tensors = file.entries.map {
            SafetensorsTensor(
                name: $0.name, dtype: $0.dtype, shape: $0.shape, bytes: Array(file.bytes(of: $0)))
        }
        let url = folder.appending(path: "copy.safetensors")
        try SafetensorsWriter.write(tensors.reversed(), metadata: file.metadata, to: url)
        #expect(try Data(contentsOf: url) == Data(file.file.bytes))
    }

    @Test func emptyFileEqualsTheLibrary() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "file")
        try SafetensorsWriter.write([], metadata: nil, to: url)
        #expect(try Data(contentsOf: url) == Data("\u{8}\0\0\0\0\0\0\0{}      ".utf8))
    }

    @Test func stridedTensorsAreWrittenRowMajor() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "file")
        let matrix = try Tensor([0, 1, 2, 3, 4, 5] as [Float], shape: [2, 3])
        try SafetensorsWriter.write(
            [SafetensorsTensor(name: "t", try matrix.transposed(0, 1))], to: url)
        let file = try SafetensorsFile(url)
        #expect(try file.tensor(#require(file.entry("t"))).floats() == [0, 3, 1, 4, 2, 5])
    }

    @Test func lazyTensorsAreMadeOneAtATime() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "file")
        weak var previous: Tensor?
        let tensors = (0..<3).map { index in
            SafetensorsTensor(name: "t.\(index)", shape: [2], dtype: .float32) {
                #expect(previous == nil)
                let tensor = try Tensor([Float(index), 1], shape: [2])
                previous = tensor
                return tensor
            }
        }
        try SafetensorsWriter.write(tensors, to: url)
        let file = try SafetensorsFile(url)
        #expect(try file.tensor(#require(file.entry("t.2"))).floats() == [2, 1])
    }

    // MARK: - Failures

    @Test func repeatedNamesAreRefused() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "file")
        let tensor = SafetensorsTensor(name: "a", dtype: .uint8, shape: [1], bytes: [0])
        #expect(
            checkpointError { try SafetensorsWriter.write([tensor, tensor], to: url) }?.description
                == "\(url.path): cannot be written: two tensors are called a; "
                + "give each tensor a name of its own")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }

    @Test func aFailingTensorLeavesTheOldFile() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data("old".utf8), "file")
        let wrong = SafetensorsTensor(name: "a", dtype: .float32, shape: [2], bytes: [0])
        #expect(
            checkpointError { try SafetensorsWriter.write([wrong], to: url) }?.description
                == "\(url.path): cannot be written: tensor a of shape [2] takes 8 bytes, but has 1; "
                + "give the shape of the elements")
        #expect(try Data(contentsOf: url) == Data("old".utf8))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
    }

    /// A child process that may write no file above 100 kB writes one of 400 kB.
    @Test func aFullDiskLeavesTheOldFile() async {
        await #expect(processExitsWith: .success) {
            let folder = try Checkout.temporaryFolder()
            defer { try? FileManager.default.removeItem(at: folder) }
            let url = try folder.write(Data("old".utf8), "file")
            signal(SIGXFSZ, SIG_IGN)
            var limit = rlimit(rlim_cur: 100_000, rlim_max: 100_000)
            #expect(setrlimit(__rlimit_resource_t(1), &limit) == 0)
            let tensor = SafetensorsTensor(name: "a", try Tensor.zeros([100_000]))
            #expect(
                checkpointError { try SafetensorsWriter.write([tensor], to: url) }?.description
                    == "\(url.path): cannot be written: "
                    + "the file would exceed the size limit of this process; raise `ulimit -f`")
            #expect(try Data(contentsOf: url) == Data("old".utf8))
            #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
        }
    }
}
