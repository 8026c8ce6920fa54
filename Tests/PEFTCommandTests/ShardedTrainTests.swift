import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// `peft train` in several processes: the same run as in one, whatever is divided, and what happens when a process is lost.
@Suite(.serialized) struct ShardedTrainTests {
    /// A division of the run, of 8 rows a step in all.
    struct Division: CustomTestStringConvertible {
        let numRanks: Int
        let rows: Int
        let flags: [String]

        init(_ numRanks: Int, rows: Int, _ flags: String...) {
            self.numRanks = numRanks
            self.rows = rows
            self.flags = flags
        }

        var testDescription: String { "\(numRanks) x \(rows) \(flags.joined(separator: " "))" }
    }

    static let divisions = [
        Division(2, rows: 4),
        Division(
            2, rows: 4, "--sharding", "none", "--gradient-checkpointing", "--offload", "optimizer"),
        Division(2, rows: 1, "--sharding", "grad-op", "--gradient-accumulation-steps", "4"),
        Division(
            2, rows: 2, "--gradient-accumulation-steps", "2", "--reduce-each-micro-batch",
            "--gradient-checkpointing", "--offload", "base"),
        Division(2, rows: 4, "--no-reshard-after-forward"),
        Division(4, rows: 2, "--gradient-checkpointing", "--offload", "all"),
        Division(4, rows: 2, "--sharding", "hybrid:2"),
        Division(
            4, rows: 1, "--sharding", "hybrid:2", "--gradient-accumulation-steps", "2",
            "--reduce-each-micro-batch"),
        Division(1, rows: 8, "--offload", "base", "--gradient-checkpointing"),
    ]

    private let workspace: Workspace
    private var flags: [String]

    init() throws {
        workspace = try Workspace()
        // 27 rows: the last step of an epoch has 3, so that some of 4 ranks have none.
        let rows = try workspace.write(rows: TinyRows.make(27))
        flags = [
            "--model", TinyModel.grouped, "--data", rows, "--eval-data", rows, "--dtype", "float32",
            "--quant-block-size", "32", "--lora-r", "3", "--lora-alpha", "6", "--learning-rate",
            "5e-3", "--lr-scheduler-type", "constant", "--logging-steps", "1", "--threads", "1",
            "--ddp-timeout", "60",
        ]
    }

    private func arguments(_ output: String, rows: Int, _ more: [String]) -> [String] {
        ["train"] + flags
            + [
                "--output-dir", workspace.path(output), "--per-device-train-batch-size", "\(rows)",
            ] + more
    }

    private func start(
        _ output: String, ranks: Int, rows: Int, _ more: String...,
        changing environments: (inout [[String: String]]) -> Void = { _ in }
    ) throws -> RankProcesses {
        var variables = ranks == 1 ? [[:]] : RankProcesses.environments(ranks)
        environments(&variables)
        return try RankProcesses(
            "peft", environments: variables, arguments: arguments(output, rows: rows, more))
    }

    private func expectDone(_ processes: RankProcesses) throws {
        for (rank, result) in try processes.finish(withinSeconds: 240).enumerated() {
            #expect(result.status == 0, "rank \(rank): \(result.err)")
            if rank > 0 { #expect(result.err == "") }
        }
    }

    private func largestDifference(_ name: String, _ first: String, _ second: String) throws
        -> Double
    {
        let values = try [first, second].map { try RunFiles.metric(name, in: workspace.path($0)) }
        try #require(values[0].count == values[1].count && !values[0].isEmpty)
        return zip(values[0], values[1]).map { ($0 - $1).magnitude }.max() ?? .nan
    }

    private func expectSame(_ first: String, _ second: String) throws {
        #expect(try largestDifference("loss", first, second) < 1e-5)
        #expect(try largestDifference("grad_norm", first, second) < 1e-5)
        #expect(try largestDifference("eval_loss", first, second) < 1e-5)
        try expectSameAdapter(first, second)
    }

    private func expectSameAdapter(_ first: String, _ second: String) throws {
        let adapters = try [first, second].map { try RunFiles.adapter(in: workspace.path($0)) }
        let square = zip(adapters[0], adapters[1]).reduce(0.0) {
            $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1))
        }
        let scale = adapters[0].reduce(0.0) { $0 + Double($1 * $1) }
        #expect((square / scale).squareRoot() < 1e-4)
    }

    // MARK: - The same run

    /// Families that have something else at their ends or in their blocks: tables of positions, weights that the files hold
    /// transposed, fused projections, biases, norms around each part, experts of sizes that are no whole blocks, codes of 8 bits.
    @Test(arguments: [
        "models/gpt2", "models/gpt-neox", "models/gemma2", "models/phi3", "models/mixtral-window",
        "models/qwen3-moe", "export/int8",
    ])
    mutating func familiesAreDividedToo(model: String) throws {
        let rows = (0..<16).map { row in
            (0..<(5 + row % 7)).map { 1 + (row * 5 + $0 * 3) % 18 }
        }
        let path = try workspace.write(rows: rows, as: "family.jsonl")
        flags = flags.map { $0 == flags[3] ? path : $0 }
        flags[1] = Checkout.fixture(model).path
        try expectDone(start("one", ranks: 1, rows: 8, "--max-steps", "4"))
        try expectDone(
            start(
                "two", ranks: 2, rows: 4, "--max-steps", "4", "--gradient-checkpointing",
                "--offload", "base"))
        try expectSame("one", "two")
    }

    @Test func everyDivisionIsTheRunOfOneProcess() throws {
        try expectDone(start("one", ranks: 1, rows: 8, "--max-steps", "8"))
        for (index, division) in Self.divisions.enumerated() {
            let output = "divided-\(index)"
            let processes = try RankProcesses(
                "peft",
                environments: division.numRanks == 1
                    ? [[:]] : RankProcesses.environments(division.numRanks),
                arguments: arguments(
                    output, rows: division.rows, ["--max-steps", "8"] + division.flags))
            try expectDone(processes)
            try expectSame("one", output)
        }
    }

    /// Parts of the base are taken out while it is read, each computed by one of the processes.
    @Test(arguments: ["pissa", "pissa_niter_4", "olora", "loftq", "kasa"])
    func startsThatReadTheWeightAreTheSameInEveryDivision(start: String) throws {
        let flags =
            ["--max-steps", "4"]
            + (start == "kasa"
                ? ["--use-kasa", "--kasa-gamma", "0.1"] : ["--init-lora-weights", start])
        let all = flags + (start == "loftq" ? ["--loftq-iter", "2"] : [])
        let divisions = [
            Division(1, rows: 8), Division(3, rows: 4), Division(2, rows: 4),
            Division(2, rows: 4, "--sharding", "none"),
            Division(4, rows: 2, "--sharding", "hybrid:2", "--offload", "base"),
        ]
        for (index, division) in divisions.enumerated() {
            let processes = try RankProcesses(
                "peft",
                environments: division.numRanks == 1
                    ? [[:]] : RankProcesses.environments(division.numRanks),
                arguments: arguments("\(index)", rows: division.rows, all + division.flags))
            try expectDone(processes)
            // The same bits of what was taken out, which only processes that divide the work by layers can show.
            #expect(
                try RunFiles.adapter(in: workspace.path("\(index)/initial_adapter"))
                    == RunFiles.adapter(in: workspace.path("0/initial_adapter")), "\(division)")
            if index > 1 { try expectSame("0", "\(index)") }
        }
    }

    /// Copies of a block share its weights in one process, and have shards of their own in several; rows say where an adapter
    /// acts; a start that rows decide is computed by one process for all.
    @Test(arguments: [
        ["--layer-replication", "[[0,2],[1,2],[0,1]]"], ["--alora-invocation-tokens", "33,34"],
        ["--init-lora-weights", "corda", "--calibration-rows", "8"],
    ])
    mutating func otherAdaptersAreTheSameInEveryDivision(adapter: [String]) throws {
        let rows = TinyRows.make(27).map { Array($0.prefix(3)) + [33, 34] + $0 }
        let path = try workspace.write(rows: rows, as: "activated.jsonl")
        flags = flags.map { $0 == flags[3] ? path : $0 }
        let divisions = [
            Division(1, rows: 8), Division(2, rows: 4),
            Division(2, rows: 4, "--sharding", "none"),
            Division(1, rows: 8, "--offload", "base", "--gradient-checkpointing"),
        ]
        for (index, division) in divisions.enumerated() {
            let processes = try RankProcesses(
                "peft",
                environments: division.numRanks == 1
                    ? [[:]] : RankProcesses.environments(division.numRanks),
                arguments: arguments(
                    "\(index)", rows: division.rows,
                    ["--max-steps", "4"] + adapter + division.flags))
            try expectDone(processes)
            if index > 0 { try expectSame("0", "\(index)") }
        }
    }

    /// Sums over rows do not show how the rows were divided: see `GradientSums`.
    @Test(arguments: ["bfloat16", "float32"])
    mutating func everyDivisionMakesTheSameBits(dtype: String) throws {
        // A model with even sides only, which the kernels take on every processor.
        flags[1] = TinyModel.tied
        flags = flags.map { $0 == "float32" ? dtype : $0 }
        flags += ["--max-steps", "6", "--max-grad-norm", "0.5"]
        let divisions = [
            Division(1, rows: 8), Division(1, rows: 2, "--gradient-accumulation-steps", "4"),
            Division(2, rows: 4),
            Division(
                4, rows: 1, "--sharding", "hybrid:2", "--gradient-accumulation-steps", "2",
                "--reduce-each-micro-batch", "--gradient-checkpointing"),
        ]
        for (index, division) in divisions.enumerated() {
            let processes = try RankProcesses(
                "peft",
                environments: division.numRanks == 1
                    ? [[:]] : RankProcesses.environments(division.numRanks),
                arguments: arguments("\(index)", rows: division.rows, division.flags))
            try expectDone(processes)
            #expect(
                try RunFiles.adapter(in: workspace.path("\(index)"))
                    == RunFiles.adapter(in: workspace.path("0")), "\(division)")
        }
    }

    /// Every rule computes the same in any division, and goes on from any division's state.
    ///
    /// With rank 128 some tensors are large enough for 8-bit state, and are cut between processes.
    @Test(arguments: ["adamw_8bit", "adafactor", "lion", "sgd", "lorafa"])
    mutating func everyOptimizerIsDivided(optim: String) throws {
        if let rank = flags.firstIndex(of: "--lora-r") {
            flags[rank + 1] = optim == "adamw_8bit" ? "128" : "5"
        }
        flags += ["--optim", optim, "--weight-decay", "0.01", "--loss-type", "nll"]
        try expectDone(start("one", ranks: 1, rows: 8, "--max-steps", "6"))
        try expectDone(start("two", ranks: 2, rows: 4, "--max-steps", "6"))
        try expectSame("one", "two")
        try expectDone(
            start("resumed", ranks: 4, rows: 2, "--max-steps", "3", "--offload", "optimizer"))
        try expectDone(start("resumed", ranks: 1, rows: 8, "--max-steps", "6", "--resume"))
        // A run that ends early evaluates once more.
        #expect(try largestDifference("loss", "one", "resumed") < 1e-5)
        #expect(try largestDifference("grad_norm", "one", "resumed") < 1e-5)
        try expectSameAdapter("one", "resumed")
        let files = try RunFiles.names(in: workspace.path("two/checkpoint-6"))
            .filter { $0.hasPrefix("optimizer") }
        #expect(
            files == [
                "optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors",
            ])
    }

    /// The best adapter of a divided run, loaded by each process in its pieces.
    @Test func theBestAdapterIsLoadedInSeveralProcesses() throws {
        for (output, ranks, rows) in [("one", 1, 8), ("two", 2, 4)] {
            try expectDone(
                start(
                    output, ranks: ranks, rows: rows, "--max-steps", "5", "--eval-steps", "1",
                    "--load-best-model-at-end", "--metric-for-best-model", "eval_loss",
                    "--greater-is-better", "--save-total-limit", "2"))
        }
        // The first of the evaluations has the greatest loss.
        let best = try RunFiles.adapter(in: workspace.path("two/checkpoint-1"))
        #expect(try RunFiles.adapter(in: workspace.path("two")) == best)
        try expectSameAdapter("one", "two")
    }

    @Test func packsAndDropoutRunInSeveralProcesses() throws {
        let more = ["--max-steps", "6", "--packing", "--max-length", "24"]
        for (output, ranks, rows) in [("one", 1, 4), ("two", 2, 2)] {
            let processes = try RankProcesses(
                "peft", environments: ranks == 1 ? [[:]] : RankProcesses.environments(ranks),
                arguments: arguments(output, rows: rows, more))
            try expectDone(processes)
        }
        try expectSame("one", "two")
        for output in ["first", "again"] {
            try expectDone(
                start(output, ranks: 2, rows: 4, "--max-steps", "4", "--lora-dropout", "0.2"))
        }
        #expect(
            try RunFiles.adapter(in: workspace.path("first"))
                == RunFiles.adapter(in: workspace.path("again")))
    }

    /// Over all processes each element of the files is read once, but for the last norm, which all of them keep.
    @Test(arguments: [1, 2, 3]) func loadingReadsEachElementOnce(numRanks: Int) throws {
        let processes = try start(
            "out", ranks: numRanks, rows: 1, "--max-steps", "1", "--json")
        let result = try #require(try processes.finish().first)
        #expect(result.status == 0, "\(result.err)")
        let events = try result.out.split(separator: "\n").map {
            try #require(try JSONValue(parsing: String($0)).objectValue)
        }
        let loaded = try #require(events.first { $0["event"]?.stringValue == "loaded" })
        let (numRead, numParameters) = (
            try #require(loaded["num_elements_read"]?.intValue),
            try #require(loaded["num_parameters"]?.intValue)
        )
        let norm = try #require(
            try SafetensorsFile(URL(filePath: TinyModel.grouped + "/model.safetensors"))
                .entries.first { $0.name == "model.norm.weight" }
        ).shape[0]
        #expect(numRead == numParameters + (numRanks - 1) * norm)
    }

    /// What a process sends in a step is what a dry run of it counts; the first step gathers a little more.
    @Test(arguments: ["full", "grad-op", "none"])
    func trafficIsAsPlanned(sharding: String) throws {
        let processes = try start(
            "out", ranks: 2, rows: 4, "--max-steps", "20", "--sharding", sharding, "--json")
        let result = try #require(try processes.finish().first)
        #expect(result.status == 0, "\(result.err)")
        let line = try #require(result.out.split(separator: "\n").last)
        let finished = try #require(try JSONValue(parsing: String(line)).objectValue)
        func bytes(_ key: String) throws -> Double {
            Double(try #require(finished[key]?.intValue))
        }
        let (sent, planned) = (
            try bytes("sent_bytes_per_step"), try bytes("planned_sent_bytes_per_step")
        )
        #expect(planned > 1000)
        #expect((sent / planned - 1).magnitude < 0.1, "\(sent) sent, \(planned) planned")
    }

    // MARK: - Going on

    @Test(arguments: [(1, 12), (2, 6), (3, 4), (4, 3)])
    func aRunGoesOnAtAnyNumberOfProcesses(numRanks: Int, rows: Int) throws {
        try expectDone(start("whole", ranks: 2, rows: 6, "--max-steps", "6", "--save-steps", "3"))
        try FileManager.default.copyItem(
            atPath: workspace.path("whole"), toPath: workspace.path("part"))
        try FileManager.default.removeItem(atPath: workspace.path("part/checkpoint-6"))
        try expectDone(
            start("part", ranks: numRanks, rows: rows, "--max-steps", "6", "--resume"))
        try expectSame("whole", "part")
        guard numRanks == 2 else { return }
        #expect(
            try RunFiles.bytes(workspace.path("whole/adapter_model.safetensors"))
                == RunFiles.bytes(workspace.path("part/adapter_model.safetensors")))
    }

    // MARK: - Ends

    private func waitForCheckpoint(in output: String) throws {
        let deadline = ContinuousClock.now + .seconds(120)
        while CheckpointFolder.list(in: URL(filePath: workspace.path(output))).isEmpty {
            try #require(ContinuousClock.now < deadline, "no checkpoint came")
            usleep(20_000)
        }
    }

    @Test(arguments: [0, 1, 2])
    func aKilledProcessEndsTheOthersAndTheRestartGoesOn(rank killed: Int) throws {
        let processes = try start(
            "out", ranks: 3, rows: 2, "--max-steps", "100000", "--save-steps", "2",
            "--save-total-limit", "3")
        try waitForCheckpoint(in: "out")
        processes.send(SIGKILL, to: killed)
        for (rank, result) in try processes.finish(withinSeconds: 120).enumerated() {
            guard rank != killed else { continue }
            #expect(result.status == 1, "rank \(rank)")
            #expect(result.err.contains("rank \(killed)"), "rank \(rank): \(result.err)")
        }
        let list = CheckpointFolder.list(in: URL(filePath: workspace.path("out")))
        let last = try #require(list.last?.step)
        // As torchrun starts it again; the run goes on by itself.
        let restarted = try start(
            "out", ranks: 3, rows: 2, "--max-steps", "\(last + 2)", "--save-steps", "2"
        ) { environments in
            for rank in environments.indices {
                environments[rank]["TORCHELASTIC_RUN_ID"] = "test"
                environments[rank]["TORCHELASTIC_RESTART_COUNT"] = "1"
                environments[rank]["TORCHELASTIC_USE_AGENT_STORE"] = "False"
            }
        }
        try expectDone(restarted)
        let steps = try RunFiles.metric("step", in: workspace.path("out"))
        #expect(Array(Set(steps)).sorted() == (1...(last + 2)).map(Double.init))
    }

    /// Who has everything saves it when another process is lost, whichever that is, and however many are left to do so.
    @Test(arguments: [(2, 0), (2, 1), (3, 1)])
    func whatIsWholeIsSavedWhenAProcessIsLost(numRanks: Int, rank killed: Int) throws {
        let processes = try start(
            "out", ranks: numRanks, rows: 6 / numRanks, "--max-steps", "100000", "--sharding",
            "none")
        let log = workspace.path("out/metrics.jsonl")
        let deadline = ContinuousClock.now + .seconds(120)
        while (try? String(contentsOfFile: log, encoding: .utf8))?.contains("\"step\": 3,") != true
        {
            try #require(ContinuousClock.now < deadline, "no third step came")
            usleep(20_000)
        }
        processes.send(SIGKILL, to: killed)
        var messages = ""
        for (rank, result) in try processes.finish(withinSeconds: 120).enumerated()
        where rank != killed {
            #expect(result.status == 1)
            #expect(result.err.contains("rank \(killed)"), "\(result.err)")
            messages += result.err
        }
        let list = CheckpointFolder.list(in: URL(filePath: workspace.path("out")))
        let last = try #require(list.last?.step)
        #expect(last >= 3)
        #expect(messages.contains("checkpoint-\(last)"), "\(messages)")
        let total = "\(last + 2)"
        try expectDone(
            start(
                "out", ranks: numRanks, rows: 6 / numRanks, "--max-steps", total, "--sharding",
                "none", "--resume"))
        try expectDone(start("one", ranks: 1, rows: 6, "--max-steps", total))
        // Rank 0 may be lost before it has written the line of the last step that the others have done.
        let ends = try ["one", "out"].map {
            try RunFiles.metric("loss", in: workspace.path($0)).suffix(2)
        }
        try #require(ends[0].count == 2 && ends[1].count == 2)
        #expect(zip(ends[0], ends[1]).allSatisfy { ($0 - $1).magnitude < 1e-5 })
        try expectSameAdapter("one", "out")
    }

    @Test func aSignalToOneProcessEndsAllWithACheckpoint() throws {
        let processes = try start(
            "out", ranks: 2, rows: 2, "--max-steps", "100000", "--save-steps", "2")
        try waitForCheckpoint(in: "out")
        processes.send(SIGTERM, to: 1)
        let results = try processes.finish(withinSeconds: 120)
        #expect(results[0].err.contains("SIGTERM"), "\(results[0].err)")
        #expect(results.map(\.status) == [128 + SIGTERM, 128 + SIGTERM])
        let steps = try RunFiles.metric("step", in: workspace.path("out"))
        let list = CheckpointFolder.list(in: URL(filePath: workspace.path("out")))
        #expect(list.last.map { Double($0.step) } == steps.max())
    }

    @Test func processesThatWereToldDifferentThingsDoNotStart() throws {
        let ranks = try RankProcesses.environments(2).enumerated().map { rank, environment in
            try RankProcesses(
                "peft", environments: [environment],
                arguments: arguments("out", rows: 4, ["--seed", "\(4 + rank)"]))
        }
        for process in ranks {
            let result = try process.finish(withinSeconds: 120)[0]
            #expect(result.status == 1)
            #expect(
                result.err.contains("seed is 5 on rank 1, 4 on rank 0"), "\(result.err)")
        }
    }

    @Test func aNumberThatIsNoneIsNamedOnEveryProcess() throws {
        let damaged = try TinyModel.grouped(damagedAt: 40, in: workspace)
        let rows = TinyRows.make(8).dropLast() + [[40, 2, 3]]
        let data = try workspace.write(rows: Array(rows), as: "damaged.jsonl")
        let processes = try RankProcesses(
            "peft", environments: RankProcesses.environments(2),
            arguments: [
                "train", "--model", damaged, "--data", data, "--output-dir",
                workspace.path("out"), "--dtype", "float32", "--threads", "1", "--no-shuffle",
                "--per-device-train-batch-size", "2", "--max-steps", "9",
            ])
        for result in try processes.finish(withinSeconds: 120) {
            #expect(result.status == 1)
            #expect(
                result.err.contains("PEFT-N002: step 2, row 8, ")
                    && result.err.contains(", on rank 1: the loss is nan"), "\(result.err)")
        }
    }

    @Test func groupsMustDivideTheProcesses() throws {
        let processes = try start("out", ranks: 2, rows: 2, "--sharding", "hybrid:3")
        for result in try processes.finish(withinSeconds: 120) {
            #expect(result.status == 1)
            #expect(
                result.err.contains("hybrid:3: 2 processes do not divide into groups of 3"),
                "\(result.err)")
        }
    }
}
