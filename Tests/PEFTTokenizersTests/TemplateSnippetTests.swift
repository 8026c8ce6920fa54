import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// Small templates against Jinja2; the fixture is made by `scripts/fixtures/templates.py`.
@Suite struct TemplateSnippetTests {
    static func fixture() throws -> JSONValue {
        try JSONValue(
            parsing: try Data(contentsOf: Checkout.fixture("templates/snippets.json")))
    }

    /// The moment at which the fixture's clock stands: 2024-03-05 07:08:09.012345.
    static let time = TemplateTime(
        Date(timeIntervalSince1970: 1_709_622_489.012_345_5),
        in: TimeZone(secondsFromGMT: 0) ?? .current)

    @Test func snippetsAgreeWithJinja() throws {
        let fixture = try Self.fixture()
        let context = try #require(fixture["context"]?.objectValue)
        for item in try #require(fixture["cases"]?.arrayValue) {
            let template = try #require(item["template"]?.stringValue)
            Self.check(template, context, item)
        }
    }

    static func check(_ template: String, _ context: JSONObject, _ expected: JSONValue) {
        let comment = Comment(rawValue: template)
        do {
            let chat = try ChatTemplate(template).render(context: context, time: time)
            let text = expected["text"]?.stringValue ?? "error: \(expected["error"] ?? nil)"
            #expect(Array(chat.text.utf8) == Array(text.utf8), "\(template)\n\(chat.text)\n\(text)")
            let spans = (expected["spans"]?.arrayValue ?? []).compactMap { span in
                span.arrayValue?.compactMap(\.intValue)
            }
            #expect(chat.generationSpans.map { [$0.lowerBound, $0.upperBound] } == spans, comment)
        } catch {
            guard let kind = expected["error"]?.stringValue else {
                Issue.record("\(template)\n\(error)\n\(expected["text"]?.stringValue ?? "")")
                return
            }
            let special: Set<TemplateError.Kind> = [.raised, .undefined, .forbidden]
            #expect(
                special.contains(error.kind) ? error.kind.rawValue == kind : kind == "other",
                "\(template): \(error) (\(kind))")
            if let message = expected["message"]?.stringValue {
                #expect(error.message == message, comment)
            }
        }
    }

    @Test func whatIsNotSupportedIsRefusedAsSuch() throws {
        let fixture = try Self.fixture()
        let context = try #require(fixture["context"]?.objectValue)
        for template in try #require(fixture["unsupported"]?.arrayValue).compactMap(\.stringValue) {
            let error = #expect(throws: TemplateError.self, "\(template)") {
                try ChatTemplate(template).render(context: context, time: Self.time)
            }
            #expect(error?.kind == .unsupported, "\(template): \(error?.description ?? "")")
        }
    }
}
