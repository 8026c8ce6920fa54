import Foundation
import PEFT

/// The configuration of IA³ on output channels: PEFT's `IA3Config` without feed-forward modules.
struct IA3Config: AdapterConfig {
    static let peftType = "IA3"

    /// The last names of the linear layers whose output is scaled.
    var targetModules: [String]
    /// PEFT scales the input of these; not built here.
    var feedforwardModules: [String] = []
    var baseModelNameOrPath: String?
    var taskType: String? = "CAUSAL_LM"
    var inferenceMode = false

    private enum CodingKeys: String, CodingKey {
        case targetModules = "target_modules"
        case feedforwardModules = "feedforward_modules"
        case baseModelNameOrPath = "base_model_name_or_path"
        case taskType = "task_type"
        case inferenceMode = "inference_mode"
    }

    init(targetModules: [String]) { self.targetModules = targetModules }

    init(adapterConfigJSON data: Data) throws(AdapterError) {
        do {
            self = try JSONDecoder().decode(Self.self, from: data)
        } catch {
            throw .invalidConfig([.notJSON("\(error)")])
        }
    }

    func adapterConfigJSON() -> Data {
        struct File: Encodable {
            let config: IA3Config

            private enum CodingKeys: String, CodingKey { case peftType = "peft_type" }

            func encode(to encoder: any Encoder) throws {
                try config.encode(to: encoder)
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(IA3Config.peftType, forKey: .peftType)
            }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        // Texts, lists of texts and booleans are always JSON.
        return (try? encoder.encode(File(config: self))) ?? Data()
    }

    func validate() throws(AdapterError) {
        guard feedforwardModules.isEmpty else {
            throw .invalidConfig([
                .unsupportedOption(
                    key: "feedforward_modules", value: "\(feedforwardModules)", supported: "[]")
            ])
        }
    }

    func attach(
        to registry: ModuleRegistry, seed: UInt64, isTrainable: Bool
    ) throws(AdapterError) -> AdapterSet {
        try validate()
        let targets = registry.linears.filter { linear in
            targetModules.contains { linear.path == $0 || linear.path.hasSuffix("." + $0) }
        }
        var adapters: [(path: String, adapter: any AdapterPart)] = []
        for linear in targets {
            do {
                let adapter = try IA3(linear, isTrainable: isTrainable)
                linear.attach(adapter)
                adapters.append((linear.path, adapter))
            } catch {
                throw .torch(error)
            }
        }
        var written = self
        written.inferenceMode = true
        return AdapterSet(config: written, adapters: adapters)
    }
}

/// IA³: one learned factor an output channel, `y = l ⊙ (W x + b)`, l one at first.
///
/// - Source: Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning"; peft 0.21.2
///   `tuners/ia3/layer.py:Linear.forward`.
final class IA3: LinearAdapter {
    /// l, `[outFeatures, 1]`, float32.
    let factors: Parameter

    var parameters: [Parameter] { [factors] }

    init(_ linear: Linear, isTrainable: Bool) throws(TorchError) {
        factors = try Parameter(
            path: "base_model.model.\(linear.path).ia3_l",
            value: .ones([linear.weight.outFeatures, 1]), isTrainable: isTrainable)
    }

    /// Autograd goes through libtorch's operations; the base's output is in the dtype of sums and not rounded yet.
    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let factors = try factors.value.reshape([1, -1]).to(baseOutput.dtype)
        return try (baseOutput * factors).to(input.dtype)
    }

    func changesNothing() throws(TorchError) -> Bool {
        try factors.value.detach().floats().allSatisfy { $0 == 1 }
    }
}
