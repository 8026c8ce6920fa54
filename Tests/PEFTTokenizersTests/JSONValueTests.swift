import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// JSON against Python's `json`; the fixture is made by `scripts/fixtures/templates.py`.
@Suite struct JSONValueTests {
    static func cases(_ key: String) throws -> [JSONValue] {
        let data = try Data(contentsOf: Checkout.fixture("templates/json.json"))
        return try #require(try JSONValue(parsing: data)[key]?.arrayValue)
    }

    @Test func parserAgreesWithPython() throws {
        for item in try Self.cases("parsed") {
            let text = try #require(item["text"]?.stringValue)
            if let dumped = item["dumped"]?.stringValue {
                #expect(try JSONValue(parsing: text).serialized() == dumped, "\(text)")
            } else {
                #expect(throws: JSONError.self, "\(text)") { try JSONValue(parsing: text) }
            }
        }
    }

    @Test func serializerAgreesWithPython() throws {
        for item in try Self.cases("dumped") {
            let value = try JSONValue(parsing: try #require(item["value"]?.stringValue))
            let options = try #require(item["options"])
            var format = JSONFormat()
            if let indent = options["indent"] {
                format.indent =
                    indent.stringValue
                    ?? String(repeating: " ", count: indent.intValue ?? 0)
            }
            if let separators = options["separators"]?.arrayValue {
                format.itemSeparator = separators[0].stringValue
                format.keySeparator = try #require(separators[1].stringValue)
            }
            format.ensuresASCII = options["ensure_ascii"]?.boolValue ?? true
            format.sortsKeys = options["sort_keys"]?.boolValue ?? false
            #expect(value.serialized(format) == item["text"]?.stringValue)
        }
    }

    @Test func floatsArePrintedAsPythonPrintsThem() throws {
        for item in try Self.cases("floats") {
            let text = try #require(item["hex"]?.stringValue)
            let value = try #require(Double(text))
            #expect(value.pythonRepresentation == item["repr"]?.stringValue)
        }
    }

    @Test(arguments: [
        ("[1, 2", "line 1, column 6: expected \",\" or \"]\", found the end of the text"),
        ("{\"a\": 1,\n \"b\" 2}", "line 2, column 6: expected \":\" after the key, found \"2\""),
        ("[\"é\", x]", "line 1, column 7: expected a value, found \"x\""),
        (
            "[\"ab",
            "line 1, column 2: expected a closing quote for the string that starts here, "
                + "found the end of the text"
        ),
        (
            "\"a\u{1}\"",
            "line 1, column 3: expected an escape sequence for a control character, "
                + "found U+0001"
        ),
        ("\"\\x\"", "line 1, column 2: expected an escape sequence of JSON, found \"\\\""),
        ("01", "line 1, column 2: expected no digit after a leading zero, found \"1\""),
        ("1 2", "line 1, column 3: expected the end of the text, found \"2\""),
        ("", "line 1, column 1: expected a value, found the end of the text"),
    ])
    func errorsNameTheirPlace(_ text: String, _ message: String) {
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
        #expect(error?.description == "invalid JSON at " + message)
    }

    @Test func invalidUTF8IsRefused() {
        let error = #expect(throws: JSONError.self) {
            try JSONValue(parsing: Data([0x22, 0x61, 0xC3, 0x22]))
        }
        #expect(error?.column == 3)
        #expect(error?.found == "the byte 0xC3")
    }

    @Test func nestingIsLimited() throws {
        let deep = String(repeating: "[", count: 512) + String(repeating: "]", count: 512)
        #expect(try JSONValue(parsing: deep).arrayValue?.count == 1)
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: "[" + deep + "]") }
        #expect(error?.expected == "no deeper nesting of arrays and objects")
    }

    @Test func largeNumbersAndLoneSurrogatesAreKeptAsFarAsPossible() throws {
        #expect(try JSONValue(parsing: "9223372036854775808") == .double(9_223_372_036_854_775_808))
        #expect(try JSONValue(parsing: "\"\\ud800x\\udc00\"") == "\u{FFFD}x\u{FFFD}")
        #expect(try JSONValue(parsing: "\"\\ud800\\u0041\"") == "\u{FFFD}A")
        #expect(try JSONValue(parsing: Data([0xEF, 0xBB, 0xBF, 0x31])) == 1)
    }

    @Test func objectsKeepTheirOrder() {
        var object: JSONObject = ["z": 1, "a": 2]
        for index in 0..<20 { object["k\(index)"] = .int(index) }
        object["a"] = 3
        object["z"] = nil
        #expect(object.keys.prefix(3) == ["a", "k0", "k1"])
        #expect(object["a"] == 3)
        #expect(object["z"] == nil)
        #expect(object["k19"] == 19)
        #expect(object.count == 21)
        let reversed = JSONObject(object.reversed().map { ($0.key, $0.value) })
        #expect(object == reversed)
        #expect(object.hashValue == reversed.hashValue)
        #expect(object != ["a": 3])
    }

    @Test func canonicallyEquivalentKeysAreDistinct() {
        let object: JSONObject = ["\u{E9}": 1, "e\u{301}": 2]
        #expect(object.count == 2)
        #expect(JSONValue.string("\u{E9}") != JSONValue.string("e\u{301}"))
        #expect(Set([ExactString("\u{E9}"), ExactString("e\u{301}")]).count == 2)
    }
}
