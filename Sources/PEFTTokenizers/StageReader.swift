/// One JSON value of a tokenizer file together with its place, so that every complaint names both.
package struct StageReader {
    /// The file's name, for messages.
    package let file: String
    /// The place of `value`, for example `pre_tokenizer.pretokenizers[1]`.
    package let path: String
    /// The value at that place.
    package let value: JSONValue

    /// Wraps the value at `path` of `file`.
    package init(file: String, path: String, value: JSONValue) {
        self.file = file
        self.path = path
        self.value = value
    }

    /// The reader of a member, or nil if the member is missing or null.
    package func member(_ key: String) -> StageReader? {
        guard let member = value[key], !member.isNull else { return nil }
        return StageReader(file: file, path: path.isEmpty ? key : path + "." + key, value: member)
    }

    /// The reader of a member that must be there.
    package func required(_ key: String) throws(TokenizerError) -> StageReader {
        guard let member = member(key) else {
            throw mismatch("a member \"\(key)\"", found: value[key] == nil ? "none" : "null")
        }
        return member
    }

    /// The string that this value must be.
    package func string() throws(TokenizerError) -> String {
        guard let string = value.stringValue else { throw mismatch("a string") }
        return string
    }

    /// The integer, zero or above, that this value must be.
    package func count() throws(TokenizerError) -> Int {
        guard let integer = value.intValue, integer >= 0, integer <= Int32.max else {
            throw mismatch("an integer from 0 to \(Int32.max)")
        }
        return integer
    }

    /// The readers of this array's elements.
    package func elements() throws(TokenizerError) -> [StageReader] {
        guard let array = value.arrayValue else { throw mismatch("an array") }
        return array.enumerated().map { index, element in
            StageReader(file: file, path: "\(path)[\(index)]", value: element)
        }
    }

    /// The object that this value must be.
    package func object() throws(TokenizerError) -> JSONObject {
        guard let object = value.objectValue else { throw mismatch("an object") }
        return object
    }

    /// The Boolean member `key`, or `defaultValue` if it is missing or null.
    package func flag(_ key: String, default defaultValue: Bool) throws(TokenizerError) -> Bool {
        guard let member = member(key) else { return defaultValue }
        guard let flag = member.value.boolValue else { throw member.mismatch("true or false") }
        return flag
    }

    /// The Boolean member `key`, which must be there.
    package func requiredFlag(_ key: String) throws(TokenizerError) -> Bool {
        let member = try required(key)
        guard let flag = member.value.boolValue else { throw member.mismatch("true or false") }
        return flag
    }

    /// The only character of the string that this value must be.
    package func character() throws(TokenizerError) -> Unicode.Scalar {
        let scalars = try string().unicodeScalars
        guard scalars.count == 1, let scalar = scalars.first else {
            throw mismatch("one character")
        }
        return scalar
    }

    /// The string member `key`, or nil if it is missing or null.
    package func optionalString(_ key: String) throws(TokenizerError) -> String? {
        try member(key)?.string()
    }

    /// The error that this value is not what was expected.
    package func mismatch(_ expected: String, found: String? = nil) -> TokenizerError {
        .invalidField(
            file: file, path: path.isEmpty ? "the top level" : path, expected: expected,
            found: found ?? shown)
    }

    private var shown: String {
        switch value {
        case .string(let string): "\"\(string)\""
        case .int(let integer): "\(integer)"
        default: value.kindDescription
        }
    }

    /// Builds the stage that this value describes by the maker registered for its `type`.
    package func make<Stage>(
        from registry: [String: StageMaker<Stage>]
    ) throws(TokenizerError) -> Stage {
        let type = try required("type").string()
        guard let maker = registry[type] else {
            throw .unknownStage(file: file, path: path, type: type, known: Array(registry.keys))
        }
        return try maker.make(self)
    }
}

/// How a stage is read from its part of the file.
package struct StageMaker<Stage>: Sendable {
    /// Reads the stage.
    package let make: @Sendable (StageReader) throws(TokenizerError) -> Stage

    /// Wraps a reading function.
    package init(_ make: @escaping @Sendable (StageReader) throws(TokenizerError) -> Stage) {
        self.make = make
    }
}
