import Foundation
import PEFTAdapters
import Testing

@Suite struct ConfigValueTests {
    @Test(arguments: [
        (0.0, "0.0"), (-0.0, "-0.0"), (0.1, "0.1"), (1e-4, "0.0001"), (1e-5, "1e-05"),
        (1.5e-7, "1.5e-07"), (123_456.75, "123456.75"), (9e15, "9000000000000000.0"),
        (1e16, "1e+16"), (-1.5e16, "-1.5e+16"), (17_000_000_000_000_000, "1.7e+16"),
        (1e17, "1e+17"), (1e100, "1e+100"), (.leastNonzeroMagnitude, "5e-324"),
    ])
    func numbersArePrintedLikePython(value: Double, text: String) {
        #expect(ConfigValue.double(value).description == text)
    }

    @Test func textIsEscapedLikePython() {
        let value = ConfigValue.object(["k\"": .array([.string("é\u{1}\u{7f}\u{2028}🦙/")])])
        #expect(value.description == #"{"k\"": ["\u00e9\u0001\u007f\u2028\ud83e\udd99/"]}"#)
    }

    @Test func emptyContainersStayOnTheLine() {
        let value = ConfigValue.object(["a": .array([]), "b": .object([:]), "c": .array([.null])])
        #expect(value.pythonJSON == "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    null\n  ]\n}")
    }
}
