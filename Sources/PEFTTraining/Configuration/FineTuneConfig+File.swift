public import Foundation

extension FineTuneConfig {
    /// Reads a YAML or JSON file; keys that it omits keep their defaults.
    ///
    /// - Throws: `ConfigError` with every unknown key, wrong type and bad value, by line.
    public init(contentsOf file: URL) throws(ConfigError) {
        var reader = ConfigFile(FineTuneConfig())
        try reader.read(file.path(percentEncoded: false))
        let problems = reader.problems.joined(by: reader.options.problems, at: reader.places)
        guard problems.isEmpty else { throw ConfigError(problems) }
        self = reader.options
    }

    /// The config as a YAML file that reads back to it.
    public var yamlText: String { yaml }
}
