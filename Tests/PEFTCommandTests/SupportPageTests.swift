import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing

/// docs/support.md says what the registries, fixtures and scripts say: it is made from them.
///
/// With `UPDATE_DOCS=1` in the environment the page is written anew.
@Suite struct SupportPageTests {
    @Test func pageIsMadeFromTheRegistries() throws {
        let url = Checkout.root.appending(path: "docs/support.md")
        let page = try SupportPage().text
        if ProcessInfo.processInfo.environment["UPDATE_DOCS"] != nil {
            try page.write(to: url, atomically: true, encoding: .utf8)
            return
        }
        #expect(
            try String(contentsOf: url, encoding: .utf8) == page,
            "write it anew: UPDATE_DOCS=1 swift test -c release --disable-xctest --filter SupportPage"
        )
    }

    /// What the page calls checked has a fixture: a family, optimizer, schedule or loss without one is no support.
    @Test func everythingRegisteredHasAFixture() throws {
        let page = try SupportPage()
        for family in ModelRegistry.modelTypes {
            #expect(
                !page.models(of: family).isEmpty, "\(family) has no model in Tests/Fixtures/models")
        }
        let optimizers = try page.values("optim", in: "optimizer/rules.json")
        // AdamW has fixtures of its own; two are other names.
        let others: [OptimizerChoice] = [.adamwTorch, .adamwBnb8bit, .lion32bit]
        for choice in OptimizerChoice.allCases where !others.contains(choice) {
            #expect(optimizers.contains(choice.rawValue), "\(choice.rawValue)")
        }
        let schedules = try page.values("kind", in: "optimizer/schedules.json")
        for choice in LearningRateScheduler.allCases {
            #expect(schedules.contains(choice.rawValue), "\(choice.rawValue)")
        }
        let losses = try page.values("loss_type", in: "preferences/cases.json")
        for choice in LossType.allCases where choice != .nll {
            #expect(losses.contains(choice.rawValue), "\(choice.rawValue)")
        }
    }
}

/// The page, and where it is from.
private struct SupportPage {
    private let fixtures = Checkout.root.appending(path: "Tests/Fixtures")
    private let scripts = Checkout.root.appending(path: "scripts")
    private let versions: [String: String]
    private let configs: [String: [String]]

    init() throws {
        let pins = try String(
            contentsOf: scripts.appending(path: "parity/requirements.txt"), encoding: .utf8)
        versions = Dictionary(
            uniqueKeysWithValues: pins.split(separator: "\n").compactMap { line in
                let parts = line.components(separatedBy: "==")
                return parts.count == 2 ? (parts[0], parts[1]) : nil
            })
        var configs: [String: [String]] = [:]
        let folder = fixtures.appending(path: "models")
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() {
            let data = try Data(contentsOf: folder.appending(path: "\(name)/config.json"))
            configs[try ModelRegistry.familyName(data), default: []].append(name)
        }
        self.configs = configs
    }

    /// The tiny random models of a family that the tests compare.
    func models(of family: String) -> [String] { configs[family] ?? [] }

    /// The values of a key in a fixture's list of cases.
    func values(_ key: String, in file: String) throws -> Set<String> {
        let data = try Data(contentsOf: fixtures.appending(path: file))
        let cases = try #require(JSONSerialization.jsonObject(with: data) as? [[String: Any]])
        return Set(cases.compactMap { $0[key] as? String })
    }

    private func peer(_ name: String) -> String { "\(name) \(versions[name] ?? "?")" }

    var text: String {
        get throws {
            ([
                """
                # What is supported, and against what it is checked

                Made from the registries, the fixtures and the parity scripts by `SupportPageTests`; do not edit.

                """
            ] + [try families, try adapters, storages, training, try parity])
            .joined(separator: "\n")
        }
    }

    private var families: String {
        get throws {
            let rows = ModelRegistry.modelTypes.map { family in
                let models = models(of: family)
                let files = models.contains { name in
                    FileManager.default.fileExists(
                        atPath: fixtures.appending(path: "models/\(name)/model.gguf").path)
                }
                return "| `\(family)` | \(models.joined(separator: ", ")) | \(files ? "yes" : "") |"
            }
            return """
                ## Families

                Logits and gradients of tiny random models, against \(peer("transformers")); more on each: [models.md](models.md).

                | `model_type` | models compared | GGUF file read |
                | --- | --- | --- |
                \(rows.joined(separator: "\n"))

                """
        }
    }

    private var adapters: String {
        get throws {
            let coding = LoRAConfig.coding
            func list(_ keys: [String]) -> String {
                keys.map { "`\($0)`" }.joined(separator: ", ")
            }
            let known = list(coding.keys.filter { coding.unsupported[$0] == nil })
            let refused = list(coding.unsupported.keys.sorted())
            let methods = AdapterMethods.all.map { $0.peftType }.joined(separator: ", ")
            return """
                ## Adapters

                Methods: \(methods). Numbers, names and files against \(peer("peft")); details: [adapters.md](adapters.md).

                - Keys of `adapter_config.json` that are read and written: \(known)
                - Refused unless they have PEFT's default: \(refused)
                - Types of `peft combine`, tensors against \(peer("peft")): \(list(CombinationType.allCases.map(\.rawValue)))

                """
        }
    }

    private var storages: String {
        let types = QuantType.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")
        let sizes = QuantizationConfig.blockSizes.map(String.init).joined(separator: ", ")
        let blocks = GGUFBlockFormat.allCases.map { "\($0)" }.joined(separator: ", ")
        let dtypes = SafetensorsDType.allCases.map(\.rawValue).joined(separator: ", ")
        return """
            ## Files and storages

            - 4 bits, bytes against \(peer("bitsandbytes")): \(types), blocks of \(sizes), double quantized or not
            - 8 bits, logits and gradients against \(peer("bitsandbytes")): folders of LLM.int8 (`load_in_8bit`), which are read
            - GGUF block formats read, numbers against \(peer("gguf")): \(blocks)
            - safetensors element types known: \(dtypes)

            """
    }

    private var training: String {
        func list<Choice: ConfigChoice>(_ choices: [Choice]) -> String {
            choices.map { "`\($0.rawValue)`" }.joined(separator: ", ")
        }
        return """
            ## Training

            - Optimizers, updates against \(peer("torch")), \(peer("transformers")), \(peer("bitsandbytes")), \(peer("peft")): \
            \(list(OptimizerChoice.allCases.map { $0 }))
            - Schedules, every step's rate against \(peer("transformers")): \(list(LearningRateScheduler.allCases.map { $0 }))
            - Losses, values and gradients against \(peer("trl")): \(list(LossType.allCases.map { $0 }))
            - Sharding: `full`, `grad-op`, `none`, `hybrid:N`; offload: \(list(OffloadTarget.allCases.map { $0 }))

            """
    }

    private var parity: String {
        get throws {
            let folder = scripts.appending(path: "parity")
            let rows = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
                .filter { $0.hasSuffix(".py") }
                .map { name in
                    let script = try String(
                        contentsOf: folder.appending(path: name), encoding: .utf8)
                    let summary = script.components(separatedBy: "\"\"\"")[1]
                        .components(separatedBy: "\n\n")[0].replacing("\n", with: " ")
                    return "| `\(name.dropLast(3))` | \(summary) |"
                }
            return """
                ## Compared with the living peers

                `make parity` runs these against the pinned versions:

                | check | what holds |
                | --- | --- |
                \(rows.joined(separator: "\n"))

                """
        }
    }
}
