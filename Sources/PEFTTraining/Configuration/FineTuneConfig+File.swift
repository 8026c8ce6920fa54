public import Foundation

extension FineTuneConfig {
    /// Reads a YAML or JSON file; keys that it omits keep their defaults.
    ///
    /// - Throws: `ConfigError` with every unknown key, wrong type and bad value, by line.
    public init(contentsOf file: URL) throws(ConfigError) {
        var reader = ConfigFile(FineTuneConfig())
        try reader.read(file.path(percentEncoded: false))
        var problems = reader.problems
        let faulty = Set(problems.compactMap(\.key))
        for var problem in reader.options.problems {
            guard let key = problem.key, !faulty.contains(key) else { continue }
            problem.place = reader.places[key]
            problems.append(problem)
        }
        guard problems.isEmpty else { throw ConfigError(problems) }
        self = reader.options
    }

    /// The config as a YAML file that reads back to it.
    public var yamlText: String { yaml }
}
