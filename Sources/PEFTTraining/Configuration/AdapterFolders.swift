/// The adapters that a command computes with, their updates added; none for the base alone.
///
/// As a flag `--adapter A --adapter B`; in a file a text or a list of texts.
public struct AdapterFolders: Hashable, Sendable {
    /// The folders, in order.
    public var paths: [String]

    /// Names folders.
    public init(_ paths: [String] = []) { self.paths = paths }
}

extension AdapterFolders: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
    /// One folder.
    public init(stringLiteral path: String) { self.init([path]) }
}

extension AdapterFolders: ConfigParsable {
    package static var expectation: String { "a folder, or a list of folders" }
    package static var placeholder: String { "FOLDER" }
    package static var arity: ConfigArity { .repeated }

    package init?(_ value: OptionValue) {
        switch value.content {
        case .null: self.init()
        case .string(let path): self.init([path])
        case .list(let items):
            let paths = items.compactMap { String($0) }
            guard paths.count == items.count else { return nil }
            self.init(paths)
        default: return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        OptionValue(.list(arguments.map { OptionValue(.string($0)) }))
    }

    package var optionValue: OptionValue {
        switch paths.count {
        case 0: OptionValue(.null)
        case 1: paths[0].optionValue
        default: OptionValue(.list(paths.map(\.optionValue)))
        }
    }
}
