import Foundation
import TestSupport
import Testing

/// Process groups of several processes, each running the program `CollectiveRank`.
@Suite(.serialized) struct ProcessGroupRanksTests {
    /// Where the ranks find each other.
    enum StoreKind: String, CaseIterable { case tcp, file }

    /// What a rank prints.
    struct Report: Decodable {
        let values: [String: [Float]]
        let error: String?
        let silentRanks: [Int]
        let sequence: Int?
        let elapsedSeconds: Double
        let nextError: String?
        let nextElapsedSeconds: Double
    }

    /// Runs a scenario on the first `numStarted` of `size` ranks; nil for a rank that was killed.
    private func run(
        _ scenario: String, size: Int, over store: StoreKind = .tcp, timeoutSeconds: Double = 30,
        numStarted: Int? = nil
    ) throws -> [Report?] {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let environments = Array(RankProcesses.environments(size).prefix(numStarted ?? size))
        var arguments = [scenario, "\(timeoutSeconds)"]
        if store == .file { arguments.append(folder.appending(path: "store").path) }
        let results = try RankProcesses(
            "CollectiveRank", environments: environments, arguments: arguments
        ).finish()
        return try results.enumerated().map { rank, result in
            if result.status == -SIGKILL { return nil }
            try #require(result.status == 0, "rank \(rank): \(result.out) \(result.err)")
            return try JSONDecoder().decode(Report.self, from: Data(result.out.utf8))
        }
    }

    private func input(_ count: Int, _ rank: Int) -> [Float] {
        (0..<count).map { Float((7 * $0 + 3 * rank) % 13) }
    }

    private func reduced(_ reduction: String, _ count: Int, _ size: Int) -> [Float] {
        let inputs = (0..<size).map { input(count, $0) }
        return (0..<count).map { index in
            let elements = inputs.map { $0[index] }
            return switch reduction {
            case "max": elements.max() ?? 0
            case "average": elements.reduce(0, +) / Float(size)
            default: elements.reduce(0, +)
            }
        }
    }

    /// The nearest bfloat16, ties to even.
    private func bfloat16(_ value: Float) -> Float {
        let bits = value.bitPattern
        return Float(bitPattern: (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    }

    @Test(arguments: [1, 2, 3, 4], StoreKind.allCases)
    func everyCollectiveGivesTheExpectedNumbers(size: Int, store: StoreKind) throws {
        let reports = try run("collectives", size: size, over: store)
        for (rank, report) in reports.enumerated() {
            let report = try #require(report)
            #expect(report.error == nil)
            #expect(report.values.count == 2 * 4 * (3 + 3 + 2 + 2) + 3 * 4 * 4)
            for (name, values) in report.values {
                let words = name.split(separator: " ").map(String.init)
                let count = try #require(words.last.flatMap { Int($0) })
                let expected =
                    switch words[0] {
                    case "allReduce": reduced(words[1], count, size)
                    case "reduceScatter":
                        Array(
                            reduced(words[1], size * count, size)[
                                (rank * count)..<((rank + 1) * count)])
                    case "allGather": (0..<size).flatMap { input(count, $0) }
                    default: input(count, size - 1)
                    }
                let rounded = words.contains("bfloat16") ? expected.map(bfloat16) : expected
                #expect(values == rounded, "rank \(rank): \(name)")
            }
        }
    }

    @Test func callsUnderWayTogetherKeepTheirOrder() throws {
        for report in try run("overlapping", size: 2) {
            let report = try #require(report)
            #expect(report.error == nil)
            #expect(report.values["isFinished"] == [1])
            #expect(report.values["first"] == reduced("sum", 1023, 2))
            #expect(report.values["second"] == input(5, 0))
            #expect(report.values["trained"] == reduced("average", 5, 2))
        }
    }

    @Test(arguments: [2, 4])
    func killedRankEndsTheOthersWithItsName(size: Int) throws {
        let reports = try run("killed", size: size, timeoutSeconds: 10)
        #expect(reports.last.map { $0 == nil } == true)
        for (rank, report) in reports.dropLast().enumerated() {
            let report = try #require(report)
            #expect(report.silentRanks == [size - 1])
            #expect(report.sequence == 2)
            #expect(report.elapsedSeconds < 10)
            let error = try #require(report.error)
            #expect(
                error.hasPrefix(
                    """
                    rank \(rank) of \(size): allReduce #2 of float32[4], sum (gradients) lost a connection; \
                    rank \(size - 1) told nothing: ended, or busy elsewhere
                    """), "\(error)")
            #expect(report.nextError == error)
            #expect(report.nextElapsedSeconds < 0.1)
        }
    }

    @Test func rankKilledAmidAGatherEndsTheOthersWithItsName() throws {
        let reports = try run("killedInGather", size: 3, timeoutSeconds: 10)
        #expect(reports.last.map { $0 == nil } == true)
        for (rank, report) in reports.dropLast().enumerated() {
            let report = try #require(report)
            let error = try #require(report.error)
            #expect(report.silentRanks == [2], "\(error)")
            #expect(
                error.hasPrefix(
                    "rank \(rank) of 3: allGather #2 of uint8[50331648] lost a connection; rank 2 told nothing"
                ), "\(error)")
            #expect(report.elapsedSeconds < 10)
            #expect(report.nextError == error)
        }
    }

    @Test func differentCallsAreReportedOnEveryRankNamingBoth() throws {
        for (rank, report) in try run("diverged", size: 4).enumerated() {
            let report = try #require(report)
            let calls = [
                "rank 0 called allReduce #2 of float32[4], sum",
                "rank 1 called broadcast #2 of float32[4] from rank 0 (gather of model.layers.3)",
                "rank 2 called allReduce #2 of float32[4], sum",
                "rank 3 called allReduce #2 of float32[4], sum",
            ]
            let ordered = [calls[rank]] + calls.indices.filter { $0 != rank }.map { calls[$0] }
            let expected = """
                rank \(rank) of 4: the ranks called different collectives, so no data was moved: \
                \(ordered.joined(separator: ", ")); every rank must make the same calls in the same order: \
                look for a branch that depends on the rank or on its data
                """
            #expect(report.error == expected)
            #expect(report.nextError == expected)
            #expect(report.nextElapsedSeconds < 0.1)
        }
    }

    @Test func sameCallForDifferentLayersIsReportedInTheNextCallIfNobodyWaited() throws {
        for report in try run("mislabeled", size: 2) {
            let error = try #require(report?.nextError)
            #expect(report?.error == nil)
            #expect(
                error.contains(
                    "rank 0 called allReduce #1 of float32[4], sum (gradients of model.layers.0)"))
            #expect(
                error.contains(
                    "rank 1 called allReduce #1 of float32[4], sum (gradients of model.layers.1)"))
        }
    }

    @Test func lateRankIsNamedAndLearnsWhoGaveUp() throws {
        let reports = try run("late", size: 4, over: .file, timeoutSeconds: 3)
        for report in reports.dropLast() {
            let report = try #require(report)
            let error = try #require(report.error)
            #expect(report.silentRanks == [3], "\(error)")
            #expect(report.elapsedSeconds < 9)
        }
        let timedOut = reports.compactMap { $0?.error }.filter {
            $0.contains("allReduce #2 of float32[4], sum (gradients) timed out after 3.0 s")
        }
        #expect(!timedOut.isEmpty)
        let late = try #require(reports.last ?? nil)
        let error = try #require(late.error)
        #expect(late.silentRanks.isEmpty, "\(error)")
        #expect(error.contains("rank 0 failed in allReduce #2 of float32[4], sum (gradients)"))
        #expect(late.elapsedSeconds < 3)
    }

    @Test(arguments: StoreKind.allCases)
    func rankThatNeverComesIsNamed(store: StoreKind) throws {
        let reports = try run(
            "collectives", size: 3, over: store, timeoutSeconds: 3, numStarted: 2)
        for (rank, report) in reports.enumerated() {
            let error = try #require(report?.error)
            #expect(
                error.hasPrefix(
                    """
                    rank \(rank) of 3: the group did not form within 3.0 s; \
                    rank 2 did not come: start all 3 processes with the same store
                    """), "\(error)")
        }
    }
}
