/// A compiled regular expression over module paths, with the meaning of Python's `re`.
///
/// The engine is Swift's `Regex`, set to Unicode scalars and simple word boundaries. It reads what is usual in
/// `target_modules`, `(?P<name>...)` and inline flags too.
///
/// Differs from Python's `re`: lookbehind (`(?<=...)`, `(?<!...)`) is refused with an error; inside of a character
/// class, `&&`, `--`, `~~` and a bare `[` are set operations and must be escaped to mean themselves.
struct ModulePattern {
    private let regex: Regex<AnyRegexOutput>

    /// Compiles `pattern`, which came as `written` in the option `key`.
    init(_ pattern: String, written: String, key: String) throws(AdapterError) {
        do {
            _ = try Regex(written)
            regex = try Regex(pattern).matchingSemantics(.unicodeScalar).wordBoundaryKind(.simple)
        } catch {
            throw .invalidConfig([
                .invalidPattern(key: key, pattern: written, detail: "\(error)")
            ])
        }
    }

    /// Python's `re.fullmatch(pattern, path)`.
    func matchesWhole(_ path: String) -> Bool {
        (try? regex.wholeMatch(in: path)) != nil
    }

    /// The number in the group `idx` of Python's `re.match(pattern, path)`.
    func index(in path: String) -> Int? {
        guard let match = try? regex.prefixMatch(in: path) else { return nil }
        return match["idx"]?.substring.flatMap { Int($0) }
    }
}

extension ModulePattern {
    /// A pattern over whole paths.
    static func whole(_ pattern: String, key: String) throws(AdapterError) -> ModulePattern {
        try ModulePattern(pattern, written: pattern, key: key)
    }

    /// A key of `rank_pattern` or `alpha_pattern`: a whole path, or what follows one of its dots.
    ///
    /// - Source: peft 0.21.2 `utils/other.py:get_pattern_key`.
    static func suffix(_ pattern: String, key: String) throws(AdapterError) -> ModulePattern {
        try ModulePattern(#"(.*\.)?("# + pattern + ")", written: pattern, key: key)
    }

    /// Finds the index of the layer that a path lies in: the first number after the pattern, or after any name.
    ///
    /// - Source: peft 0.21.2 `tuners/tuners_utils.py:check_target_module_exists`.
    static func layerIndex(after pattern: String?) throws(AdapterError) -> ModulePattern {
        guard let pattern else {
            return try whole(#".*?\.[^.]*\.(?P<idx>\d+)\."#, key: "layers_pattern")
        }
        return try ModulePattern(
            #"(?:^|.*?\.)"# + pattern + #"\.(?P<idx>\d+)\."#, written: pattern,
            key: "layers_pattern")
    }
}
