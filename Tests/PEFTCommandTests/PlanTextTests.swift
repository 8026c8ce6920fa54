import PEFT
import PEFTCommand
import Testing

@Suite struct PlanTextTests {
    private static let plan = RunPlan(
        numRanks: 2, numTokens: 1024,
        parts: [
            .init(name: "base", sizeBytes: 1_930_000_000),
            .init(name: "gathered_units", sizeBytes: 481_000_000),
            .init(name: "loss", sizeBytes: 0), .init(name: "process", sizeBytes: 223_000_000),
        ], sentBytesPerStep: 3_630_000_000)

    private func text(_ change: (inout PlanReport) -> Void) -> String {
        var report = PlanReport(plan: Self.plan)
        change(&report)
        return PlanText.text(of: report)
    }

    @Test func partsTrafficAndProposalsAreShown() {
        let proposal = PlanProposal(
            changes: ["--gradient-checkpointing", "--offload base"],
            plan: RunPlan(
                numRanks: 2, numTokens: 1024,
                parts: [.init(name: "process", sizeBytes: 223_000_000)], sentBytesPerStep: 0))
        let shown = text {
            $0.assumptions = ["rows.jsonl is not there"]
            $0.memoryLimit = 2_000_000_000
            $0.trafficSeconds = 3.5
            $0.proposals = [proposal]
        }
        #expect(
            shown == """
                note: rows.jsonl is not there
                2 processes, micro-batches of up to 1,024 tokens
                memory of a process at its peak:
                  base             1.93 GB
                  gathered units    481 MB
                  process           223 MB
                  total            2.63 GB
                traffic: a process sends 3.63 GB a step, at least 3.50 s
                does not fit into 2.00 GB
                what fits:
                  --gradient-checkpointing --offload base: 223 MB

                """)
    }

    @Test func theVerdictFollowsTheLimit() {
        #expect(text { $0.memoryLimit = nil }.contains("fit") == false)
        #expect(text { $0.memoryLimit = 3_000_000_000 }.hasSuffix("fits into 3.00 GB\n"))
        #expect(
            text { $0.memoryLimit = 1 }
                .hasSuffix("no change of options fits: take a smaller model or --lora-r\n"))
    }
}
