import PEFT
import PEFTTraining
import Testing

@Suite struct DeviceChoiceTests {
    @Test(arguments: ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
    func aChoiceReadsAsItIsWritten(text: String) {
        #expect(DeviceChoice(text)?.description == text)
    }

    @Test(arguments: [
        "", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:+1", "cuda:01", "cuda: 1", "cuda:1 ", "cpu:0",
        "cuda:99999999999999999999",
    ])
    func anythingElseIsNoChoice(text: String) {
        #expect(DeviceChoice(text) == nil)
    }

    @Test func whatIsThereDecides() throws {
        let cpu = DeviceChoice.Machine(isCUDABuild: false, numGPUs: 0)
        let idle = DeviceChoice.Machine(isCUDABuild: true, numGPUs: 0)
        let two = DeviceChoice.Machine(isCUDABuild: true, numGPUs: 2)
        for machine in [cpu, idle, two] {
            #expect(try DeviceChoice.cpu.device(localRank: 1, on: machine) == .cpu)
        }
        #expect(try DeviceChoice.auto.device(on: cpu) == .cpu)
        #expect(try DeviceChoice.auto.device(on: idle) == .cpu)
        #expect(try DeviceChoice.auto.device(localRank: 1, on: two) == .cuda(1))
        #expect(try DeviceChoice.cuda.device(localRank: 1, on: two) == .cuda(1))
        #expect(try DeviceChoice.gpu(1).device(localRank: 0, on: two) == .cuda(1))
    }

    @Test func aGPUThatIsNotThereIsAnError() {
        func message(_ choice: DeviceChoice, _ localRank: Int, _ isCUDABuild: Bool, _ numGPUs: Int)
            -> String?
        {
            let machine = DeviceChoice.Machine(isCUDABuild: isCUDABuild, numGPUs: numGPUs)
            return #expect(throws: DeviceError.self) {
                try choice.device(localRank: localRank, on: machine)
            }?.description
        }
        #expect(
            message(.cuda, 0, false, 0) == """
                device cuda: this program is built with libtorch \(TorchRuntime.headerVersion) for the CPU; build it with a \
                CUDA build of libtorch (LIBTORCH=$PWD/.libtorch-cuda after make cuda-check), or give --device cpu
                """)
        #expect(
            message(.gpu(1), 0, true, 0) == """
                device cuda:1: CUDA finds no GPU on this machine; check nvidia-smi and CUDA_VISIBLE_DEVICES, or give \
                --device cpu
                """)
        #expect(
            message(.gpu(2), 0, true, 2) == """
                device cuda:2: this process's GPU would be number 2, but it sees 2, from 0; give another number, or check \
                CUDA_VISIBLE_DEVICES
                """)
        #expect(
            message(.auto, 3, true, 2) == """
                device auto: this process's GPU would be number 3, but it sees 2, from 0; give each host as many processes as \
                it has GPUs, or check CUDA_VISIBLE_DEVICES
                """)
    }

    /// What this machine and build lack is an error of every command that computes; none falls back to the processor.
    @Test(.enabled(if: Device.numCUDADevices == 0)) func commandsRefuseAMissingGPU() throws {
        var config = FineTuneConfig(model: "model", data: "rows", outputDir: "out")
        config.device = .cuda
        #expect(throws: DeviceError.self) { try FineTune.run(config) }
        #expect(throws: DeviceError.self) { try Doctor.run(config) }
        var generate = GenerateOptions()
        generate.base.device = .gpu(0)
        #expect(throws: DeviceError.self) { try Generate.run(generate) }
        var score = ScoreOptions()
        score.base.device = .cuda
        #expect(throws: DeviceError.self) { try Score.run(score) }
    }
}
