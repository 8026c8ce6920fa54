package import Torch

/// Which device a model is on and computes on.
public enum DeviceChoice: Hashable, Sendable {
    /// A GPU where libtorch is a CUDA build and finds one, else the CPU.
    case auto
    /// The processor.
    case cpu
    /// The GPU whose number is this process's on its host; the first one for a process alone.
    case cuda
    /// The GPU of a number, as CUDA counts those that are visible to the process.
    case gpu(Int)
}

extension DeviceChoice: LosslessStringConvertible {
    /// `auto`, `cpu`, `cuda` or `cuda:1`.
    public var description: String {
        switch self {
        case .auto: "auto"
        case .cpu: "cpu"
        case .cuda: "cuda"
        case .gpu(let index): "cuda:\(index)"
        }
    }

    /// Reads a choice as it is written; nil for anything else.
    public init?(_ description: String) {
        let number = description.hasPrefix("cuda:") ? Int(description.dropFirst(5)) : nil
        let choices: [DeviceChoice] = [.auto, .cpu, .cuda] + (number.map { [.gpu($0)] } ?? [])
        guard (number ?? 0) >= 0,
            let choice = choices.first(where: { $0.description == description })
        else { return nil }
        self = choice
    }
}

extension DeviceChoice: ConfigParsable {
    package static var expectation: String { "auto, cpu, cuda or cuda:<number of a GPU>" }
    package static var placeholder: String { "auto|cpu|cuda|cuda:N" }
}

extension DeviceChoice: Codable {
    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        self = try .decoded(from: decoder)
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        try description.encode(to: encoder)
    }
}

// MARK: - What there is

extension DeviceChoice {
    /// The GPUs that a process has.
    package struct Machine: Sendable {
        /// Whether libtorch is a CUDA build.
        package var isCUDABuild: Bool
        /// GPUs that this process can use.
        package var numGPUs: Int

        /// Describes a machine.
        package init(isCUDABuild: Bool, numGPUs: Int) {
            self.isCUDABuild = isCUDABuild
            self.numGPUs = numGPUs
        }

        /// This one.
        package static var current: Machine {
            Machine(isCUDABuild: Device.isCUDABuild, numGPUs: Device.numCUDADevices)
        }
    }

    /// The device of this process.
    ///
    /// - Parameters:
    ///   - localRank: this process's number on its host.
    ///   - machine: what there is.
    /// - Returns: a device that can be used.
    /// - Throws: ``DeviceError`` for a GPU that is not there; nothing falls back to the CPU but `auto`.
    package func device(
        localRank: Int = 0, on machine: Machine = .current
    ) throws(DeviceError) -> Device {
        let index: Int
        switch self {
        case .cpu: return .cpu
        case .auto where !machine.isCUDABuild || machine.numGPUs == 0: return .cpu
        case .auto, .cuda: index = localRank
        case .gpu(let number): index = number
        }
        guard machine.isCUDABuild else { throw .notInBuild(choice: self) }
        guard machine.numGPUs > 0 else { throw .noGPU(choice: self) }
        guard index < machine.numGPUs else {
            throw .noSuchGPU(choice: self, index: index, numGPUs: machine.numGPUs)
        }
        return .cuda(index)
    }
}

/// A device that was asked for and cannot be used.
public enum DeviceError: Error, Equatable, Sendable {
    /// libtorch is no CUDA build.
    case notInBuild(choice: DeviceChoice)
    /// CUDA finds no GPU.
    case noGPU(choice: DeviceChoice)
    /// There are fewer GPUs.
    case noSuchGPU(choice: DeviceChoice, index: Int, numGPUs: Int)
}

extension DeviceError: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    public var description: String {
        switch self {
        case .notInBuild(let choice):
            """
            device \(choice): this program is built with libtorch \(TorchRuntime.headerVersion) for the CPU; build it with \
            a CUDA build of libtorch (LIBTORCH=$PWD/.libtorch-cuda after make cuda-check), or give --device cpu
            """
        case .noGPU(let choice):
            """
            device \(choice): CUDA finds no GPU on this machine; check nvidia-smi and \
            CUDA_VISIBLE_DEVICES, or give --device cpu
            """
        case .noSuchGPU(let choice, let index, let numGPUs):
            """
            device \(choice): this process's GPU would be number \(index), but it sees \(numGPUs), from 0; give \
            \(choice == .gpu(index) ? "another number" : "each host as many processes as it has GPUs"), or check CUDA_VISIBLE_DEVICES
            """
        }
    }
}
