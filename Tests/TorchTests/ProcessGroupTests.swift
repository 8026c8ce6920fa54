import Testing
import Torch

@Suite struct ProcessGroupTests {
    private func makeGroup() throws -> ProcessGroup {
        try ProcessGroup(
            store: .inMemory(), rank: 0, size: 1, timeoutSeconds: 10, address: "127.0.0.1")
    }

    @Test func groupOfOneKeepsItsNumbers() throws {
        let group = try makeGroup()
        let tensor = try Tensor([1, 2, 3] as [Float], shape: [3])
        try group.allReduce(tensor, .average)
        try group.broadcast(tensor, from: 0)
        let output = try Tensor.zeros([3])
        try group.allGather(tensor, into: output)
        #expect(try output.floats() == [1, 2, 3])
        try group.reduceScatter(tensor, into: output)
        #expect(try output.floats() == [1, 2, 3])
    }

    @Test func averageOfIntegersIsRefusedAndTheGroupGoesOn() throws {
        let group = try makeGroup()
        let tensor = try Tensor([1, 2] as [Int64], shape: [2])
        let error = #expect(throws: CollectiveError.self) { try group.allReduce(tensor, .average) }
        #expect(
            error?.description == """
                rank 0 of 1: allReduce: the average of int64[2] is no int64: convert it to float32 first, \
                or take the sum
                """)
        try group.allReduce(tensor, .sum)
        #expect(try tensor.int64s() == [1, 2])
    }

    @Test func partsThatDoNotFitAreRefused() throws {
        let group = try makeGroup()
        let error = #expect(throws: CollectiveError.self) {
            try group.allGather(try Tensor.zeros([3]), into: try Tensor.zeros([4]))
        }
        #expect(
            error?.description == """
                rank 0 of 1: allGather: float32[4] is not 1 times float32[3]: expected 3 elements of float32
                """)
        #expect(throws: CollectiveError.self) {
            try group.reduceScatter(
                try Tensor.zeros([3]), into: try Tensor.zeros([3], dtype: .bfloat16))
        }
    }

    @Test func stridedTensorIsRefused() throws {
        let group = try makeGroup()
        let strided = try Tensor.zeros([2, 3]).transposed()
        let error = #expect(throws: CollectiveError.self) { try group.broadcast(strided, from: 0) }
        #expect(
            error?.description
                == "rank 0 of 1: broadcast: float32[3, 2] is strided: call contiguous() first")
    }

    @Test func rootOutsideOfTheGroupIsRefused() throws {
        let group = try makeGroup()
        let error = #expect(throws: CollectiveError.self) {
            try group.broadcast(try Tensor.zeros([1]), from: 1)
        }
        #expect(
            error?.description
                == "rank 0 of 1: broadcast: root 1 is no rank; ranks are 0 to 0")
    }

    @Test func secondProcessOfOneRankIsRefused() throws {
        let store = try Store.inMemory()
        _ = try ProcessGroup(
            store: store, rank: 0, size: 1, timeoutSeconds: 10, address: "127.0.0.1")
        let error = #expect(throws: CollectiveError.self) {
            _ = try ProcessGroup(
                store: store, rank: 0, size: 1, timeoutSeconds: 10, address: "127.0.0.1")
        }
        #expect(
            error?.description == """
                rank 0 of 1: connect: a process has joined as rank 0 before: give every process a rank of its own, \
                and every run a new store
                """)
    }

    @Test func rankOutsideOfTheGroupIsRefused() throws {
        #expect(throws: CollectiveError.self) {
            _ = try ProcessGroup(store: .inMemory(), rank: 2, size: 2, timeoutSeconds: 10)
        }
    }

    @Test(.enabled(if: ProcessGroup.Backend.nccl.problem != nil, "this machine can use NCCL"))
    func backendThatIsNotHereIsRefusedBeforeTheRankJoins() throws {
        let problem = try #require(ProcessGroup.Backend.nccl.problem)
        let store = try Store.inMemory()
        let error = #expect(throws: CollectiveError.self) {
            _ = try ProcessGroup(
                store: store, rank: 0, size: 1, timeoutSeconds: 10, backend: .nccl)
        }
        #expect(error?.description == "rank 0 of 1: connect: \(problem)")
        _ = try ProcessGroup(
            store: store, rank: 0, size: 1, timeoutSeconds: 10, address: "127.0.0.1")
    }

    @Test func missingBackendSaysWhatIsMissingAndWhatToDo() {
        #expect(ProcessGroup.Backend.gloo.problem == nil)
        #expect(
            ProcessGroup.Backend.problem(numNCCLDevices: -1) == """
                the backend nccl is not in this build: libtorch \(TorchRuntime.headerVersion) was without \
                lib/libtorch_cuda.so, or without nvidia/cu13/include and nvidia/nccl/include beside it; \
                build with LIBTORCH=$PWD/.libtorch-cuda after make cuda-check, or use the backend gloo
                """)
        #expect(
            ProcessGroup.Backend.problem(numNCCLDevices: 0) == """
                the backend nccl needs a GPU, and CUDA finds none on this machine: check nvidia-smi and \
                CUDA_VISIBLE_DEVICES, or use the backend gloo
                """)
        #expect(ProcessGroup.Backend.problem(numNCCLDevices: 1) == nil)
    }

    @Test func errorNamesCollectiveNumberAndSilentRanks() {
        let error = CollectiveError(
            reason: .timedOut, rank: 0, numRanks: 3,
            call: "broadcast #12 of float32[4] from rank 0",
            timeoutSeconds: 60,
            peers: [
                .init(rank: 1, call: "broadcast #12 of float32[4] from rank 0", message: "closed"),
                .init(rank: 2),
            ], message: "Timed out")
        #expect(error.collective == "broadcast")
        #expect(error.sequence == 12)
        #expect(error.silentRanks == [2])
        #expect(
            error.description == """
                rank 0 of 3: broadcast #12 of float32[4] from rank 0 timed out after 60.0 s; \
                rank 2 told nothing: ended, or busy elsewhere; see what was logged there and restart \
                all ranks from the last checkpoint; \
                rank 1 failed in broadcast #12 of float32[4] from rank 0: closed; \
                if a rank is slow rather than lost, raise the timeout (Timed out)
                """)
    }
}
