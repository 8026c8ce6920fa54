public import Foundation
public import PEFTLayers
import Synchronization

/// The configuration of one adapter method: what `adapter_config.json` says, and how to attach it.
///
/// A new method is a new conformer in a file of its own and one line in ``AdapterMethods``.
public protocol AdapterConfig: Codable, Hashable, Sendable {
    /// The method's name in `adapter_config.json`, in capitals.
    static var peftType: String { get }

    /// The base model's name or folder.
    var baseModelNameOrPath: String? { get set }

    /// Reads the content of `adapter_config.json`.
    ///
    /// - Throws: `AdapterError.invalidConfig` with every problem found.
    init(adapterConfigJSON data: Data) throws(AdapterError)

    /// The content of `adapter_config.json` as PEFT writes it.
    func adapterConfigJSON() -> Data

    /// Checks the values of all options, without a model.
    ///
    /// - Throws: `AdapterError.invalidConfig` with every problem found.
    func validate() throws(AdapterError)

    /// Attaches freshly initialized adapters to the layers of a model; to none of them if it throws.
    ///
    /// - Parameters:
    ///   - registry: the model's layers.
    ///   - seed: with each layer's path, decides the initial values.
    ///   - isTrainable: whether autograd records for the adapters and the optimizer updates them.
    /// - Returns: what was attached.
    /// - Throws: `AdapterError` if the configuration is invalid or does not fit the model.
    func attach(
        to registry: ModuleRegistry, seed: UInt64, isTrainable: Bool
    ) throws(AdapterError) -> AdapterSet
}

extension AdapterConfig {
    /// Attaches freshly initialized adapters that are trained; otherwise as ``attach(to:seed:isTrainable:)``.
    public func attach(
        to registry: ModuleRegistry, seed: UInt64
    ) throws(AdapterError) -> AdapterSet {
        try attach(to: registry, seed: seed, isTrainable: true)
    }
}

/// The methods that an adapter folder can hold.
public enum AdapterMethods {
    /// One line for each method.
    private static let builtIn: [any AdapterConfig.Type] = [
        LoRAConfig.self
    ]

    private static let methods = Mutex(builtIn)

    /// The known methods.
    public static var all: [any AdapterConfig.Type] { methods.withLock { $0 } }

    /// Adds a method of one's own, for the whole process: from then on its folders are read as those of the others.
    ///
    /// - Throws: `AdapterError.methodTaken` if another method has its name.
    public static func register(_ method: any AdapterConfig.Type) throws(AdapterError) {
        let isFree = methods.withLock { methods in
            let known = methods.first { $0.peftType == method.peftType }
            if known == nil { methods.append(method) }
            return known == nil || known == method
        }
        guard isFree else { throw .methodTaken(method.peftType) }
    }

    /// Reads the content of `adapter_config.json` with the method that it names.
    ///
    /// - Throws: `AdapterError.invalidConfig` for an unknown method, or as the method's initializer.
    public static func readConfig(
        adapterConfigJSON data: Data
    ) throws(AdapterError) -> any AdapterConfig {
        guard case .object(let members) = try ConfigValue(json: data),
            case .string(let type)? = members["peft_type"]
        else {
            throw .invalidConfig([
                .wrongValue(
                    key: "peft_type", expected: "the name of a method",
                    found: "none; is this an adapter_config.json?")
            ])
        }
        guard let method = all.first(where: { $0.peftType == type }) else {
            throw .invalidConfig([.unknownMethod(type, known: all.map { $0.peftType })])
        }
        return try method.init(adapterConfigJSON: data)
    }
}
