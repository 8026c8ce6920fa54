import Foundation
import PEFTTokenizers
import Testing

/// What `ChatTemplate` says about a template or conversation that does not work.
@Suite struct TemplateErrorTests {
    @Test(arguments: [
        (
            "{% if x %}\na",
            "line 2: expected '{% elif %}' or '{% else %}' or '{% endif %}' for 'if' of "
                + "line 1, found the end of the template"
        ),
        ("a\n{% endfor %}", "line 2: expected a statement, found the unknown tag 'endfor'"),
        ("{{ 1 + }}", "line 1: expected an expression, found '}}'"),
        (
            "\n\n{{ 'a }}",
            "line 3: expected ' at the end of the string, found the end of the template"
        ),
        ("{{ (1] }}", "line 1: expected ')', found ']'"),
        ("{{ x|nope }}", "line 1: expected the name of a filter, found 'nope', which is unknown"),
        ("{{ x|pprint }}", "line 1: the filter 'pprint' is not supported"),
        ("{{ x is nope }}", "line 1: expected the name of a test, found 'nope', which is unknown"),
        ("{% break %}", "line 1: expected a loop around 'break', found none"),
        (
            "{% extends 'a' %}",
            "line 1: the statement 'extends' is not supported in chat templates"
        ),
        (
            "{# never",
            "line 1: expected '#}' at the end of the comment, found the end of the template"
        ),
        ("{% set 1 = 2 %}", "line 1: expected a name, found '1'"),
    ])
    func templatesThatDoNotParse(_ source: String, _ message: String) {
        let error = #expect(throws: TemplateError.self) { try ChatTemplate(source) }
        #expect(error?.description == "chat template, " + message)
    }

    @Test(arguments: [
        ("a\n{{ x.y.z }}", TemplateError.Kind.undefined, "line 2: 'x' is undefined"),
        (
            "{{ messages[0].nope.deep }}", .undefined,
            "line 1: 'dict object' has no attribute 'nope'"
        ),
        ("{{ 1 + 'a' }}", .type, "line 1: unsupported operand types for +: 'int' and 'str'"),
        ("{{ 1 // 0 }}", .value, "line 1: division by zero"),
        (
            "{{ messages.append(1) }}", .forbidden,
            "line 1: access to attribute 'append' of 'list' object is unsafe."
        ),
        (
            "{% for m in messages %}\n{{ raise_exception('no ' ~ m.role) }}{% endfor %}", .raised,
            "line 2: no user"
        ),
        (
            "{{ 2 ** 100 }}", .unsupported,
            "line 1: the result of 2 ** 100 does not fit into 64 bits"
        ),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", .value,
            "line 1: macros and loops call each other more than 100 deep"
        ),
        (
            "{% for a, b in [[1]] %}{% endfor %}", .value,
            "line 1: expected 2 values to unpack, found 1"
        ),
        ("{{ 'a'.center() }}", .type, "line 1: center() lacks the argument 'width'"),
    ])
    func templatesThatFail(_ source: String, _ kind: TemplateError.Kind, _ message: String) throws {
        let template = try ChatTemplate(source)
        let error = #expect(throws: TemplateError.self) {
            try template.render(messages: [["role": "user", "content": "x"]])
        }
        #expect(error?.kind == kind)
        #expect(error?.description == "chat template, " + message)
    }

    @Test func messagesMustBeObjects() throws {
        let template = try ChatTemplate("x")
        let error = #expect(throws: TemplateError.self) { try template.render(messages: [[], 5]) }
        #expect(
            error?.description == "chat template: message 0: expected an object, found an array")
    }

    @Test func deepNestingIsRefused() throws {
        let sum = try ChatTemplate("{{ 1" + String(repeating: " + 1", count: 2000) + " }}")
        let error = #expect(throws: TemplateError.self) { try sum.render(messages: []) }
        #expect(error?.kind == .unsupported)
        let source = "{{ " + String(repeating: "(", count: 5000) + "1"
        #expect(throws: TemplateError.self) { try ChatTemplate(source) }
        let statements = String(repeating: "{% if true %}", count: 5000)
        #expect(throws: TemplateError.self) { try ChatTemplate(statements) }
    }

    @Test func oneTemplateServesManyTasks() async throws {
        let template = try ChatTemplate(
            "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}")
        let texts = try await withThrowingTaskGroup(of: String.self) { group in
            for index in 0..<8 {
                group.addTask {
                    try template.render(messages: [["content": .int(index)]]).text
                }
            }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(texts == Set((0..<8).map { "1\($0)" }))
    }

    @Test func theClockIsPassedIn() throws {
        let template = try ChatTemplate("{{ strftime_now('%d %b %Y %H:%M') }}")
        let zone = try #require(TimeZone(secondsFromGMT: 7200))
        let time = TemplateTime(Date(timeIntervalSince1970: 0), in: zone)
        #expect(try template.render(messages: [], time: time).text == "01 Jan 1970 02:00")
    }
}
