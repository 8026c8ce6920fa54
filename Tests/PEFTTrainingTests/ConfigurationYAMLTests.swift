import PEFT
import PEFTTraining
import Testing

@Suite struct YAMLReaderTests {
    @Test(
        arguments: [
            ("2e-4", .number(2e-4)), ("0.0002", .number(2e-4)), ("1E3", .number(1000)),
            (".5", .number(0.5)), ("5.", .number(5)), ("-1", .integer(-1)), ("+7", .integer(7)),
            ("0x1F", .integer(31)), ("0o17", .integer(15)), ("007", .integer(7)),
            (".inf", .number(.infinity)), ("-.INF", .number(-.infinity)),
            ("true", .boolean(true)), ("False", .boolean(false)),
            ("~", .null), ("null", .null), ("", .null),
            ("yes", .string("yes")), ("no", .string("no")), ("on", .string("on")),
            ("1_000", .string("1_000")), ("1,000", .string("1,000")), ("e4", .string("e4")),
            (".", .string(".")), ("1e", .string("1e")), ("--1", .string("--1")),
            ("0x", .string("0x")), ("nan", .string("nan")), ("12:30", .string("12:30")),
            ("99999999999999999999", .number(1e20)),
        ] as [(String, OptionValue.Content)])
    func unquotedScalarsFollowTheCoreSchema(text: String, content: OptionValue.Content) {
        #expect(OptionValue.plain(text).content == content)
    }

    @Test func notANumberIsRead() {
        guard case .number(let value) = OptionValue.plain(".nan").content else {
            Issue.record("expected a number")
            return
        }
        #expect(value.isNaN)
    }

    @Test func treesKeepLinesOrderAndQuotedStrings() throws {
        let text = """
            # a comment
            model: "123"
            steps: 123
            list:
              - a
              - 'b c'
            map: {z: 1, a: 2.5}
            block: |
              two
              lines
            """
        let value = try YAMLReader.read(text)
        guard case .map(let entries) = value.content else {
            Issue.record("expected a map")
            return
        }
        #expect(entries.map(\.key) == ["model", "steps", "list", "map", "block"])
        #expect(entries.map(\.line) == [2, 3, 4, 7, 8])
        #expect(entries[0].value.content == .string("123"))
        #expect(entries[1].value.content == .integer(123))
        #expect(entries[2].value == ["a", "b c"].optionValue)
        #expect(
            entries[3].value.content
                == .map([
                    OptionEntry(key: "z", line: 7, value: OptionValue(.integer(1))),
                    OptionEntry(key: "a", line: 7, value: OptionValue(.number(2.5))),
                ]))
        #expect(entries[4].value.content == .string("two\nlines"))
    }

    @Test(arguments: ["", "# nothing\n", "---\n", "null"])
    func emptyDocumentsAreNull(text: String) throws {
        #expect(try YAMLReader.read(text).content == .null)
    }

    @Test(
        arguments: [
            ("a: [1, 2", 1, "not valid YAML or JSON: did not find expected ',' or ']'"),
            ("a: 1\nb: \"x\n", 2, "not valid YAML or JSON: found unexpected end of stream"),
            (
                "a: 1\n\tb: 2", 2,
                "not valid YAML or JSON: found a tab character that violates"
            ),
            ("a: 1\n  b: 2", 2, "not valid YAML or JSON: mapping values are not allowed"),
            ("a: 1\nb: 2\na: 3", 3, "a is given twice; the first is on line 1"),
            ("a: &x 1", 1, "anchors (&name) are not supported; write the value out"),
            ("a: *x", 1, "aliases (*name) are not supported; write the value out"),
            ("a: !!str 1", 1, "tags (!name) are not supported; quote a string to keep it one"),
            ("a: 1\n---\nb: 2", 2, "expected one document, found a second ('---')"),
            ("? [a]\n: 1", 1, "a key must be a word, not a list or a map"),
            ("a: \u{0}", 1, "not valid YAML or JSON: control characters are not allowed"),
        ])
    func malformedTextsAreRefusedWithTheirLine(text: String, line: Int, message: String) {
        let failure = #expect(throws: YAMLReader.Failure.self) { try YAMLReader.read(text) }
        #expect(failure?.line == line)
        let description = failure.map { ConfigProblem($0.reason).description } ?? ""
        #expect(description.hasPrefix(message), "\(description)")
    }

    @Test func deepNestingIsRefused() {
        let text = String(repeating: "[", count: 200) + String(repeating: "]", count: 200)
        let failure = #expect(throws: YAMLReader.Failure.self) { try YAMLReader.read(text) }
        #expect(failure?.reason == .syntax("nested more than 64 levels deep"))
    }

    @Test(
        arguments: [
            "plain", "with space", "", "null", "true", "12", "1e5", "-dash", "- x", "a: b", "#x",
            "quote\"s and \\ back", "line\nbreak\ttab\r", "日本語 🎉", "\u{1}\u{7F}\u{85}\u{2028}",
            "it's", "{x}", "[y]", "@at", "%p", "x,y", "~", "C:\\models\\a", "..", "0x1F",
        ])
    func stringsAreWrittenSoThatTheyReadBack(string: String) throws {
        let list = [string, string].optionValue
        #expect(try YAMLReader.read(YAMLWriter.text(of: list)) == list)
        let map = ["key \(string)": string].optionValue
        guard case .map(let entries) = try YAMLReader.read(YAMLWriter.text(of: map)).content else {
            Issue.record("expected a map")
            return
        }
        #expect(entries.map(\.key) == ["key \(string)"])
        #expect(entries.map(\.value) == [string.optionValue])
    }

    @Test(arguments: [0.0, 1, -3, 2e-4, 1e-8, 0.1, 1e300, 123456.789, 1e12])
    func numbersAreWrittenSoThatTheyReadBack(number: Double) throws {
        let read = try YAMLReader.read(YAMLWriter.text(of: number.optionValue))
        #expect(Double(read) == number)
    }
}

@Suite struct NearestNameTests {
    static let names = [
        "lora_r", "lora_alpha", "learning_rate", "lr_scheduler_type", "data", "seed",
    ]

    @Test(
        arguments: [
            ("lora_rank", "lora_r"), ("learning_rte", "learning_rate"), ("Seed", "seed"),
            ("date", "data"), ("lr", "lr_scheduler_type"), ("rate_learning", "learning_rate"),
            ("laerning_rate", "learning_rate"),
        ])
    func misspellingsFindTheirName(name: String, expected: String) {
        #expect(NearestName.of(name, in: Self.names) == expected)
    }

    @Test(arguments: ["gradient_noise", "xyzzyx", "optimizer"])
    func otherNamesFindNone(name: String) {
        #expect(NearestName.of(name, in: Self.names) == nil)
    }

    @Test(
        arguments: [
            ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1), ("same", "same", 0),
            ("a", "", 1),
        ])
    func distancesCountEdits(left: String, right: String, edits: Int) {
        #expect(NearestName.distance(left, right) == edits)
    }
}
