import PEFT
import PEFTCommand
import Testing

@Suite struct PreflightTextTests {
    /// A run that is ready.
    static let ready = PreflightReport(
        checks: [
            .init(topic: "base model", outcome: .passed, findings: ["llama"]),
            .init(topic: "rows", outcome: .warning, findings: ["12 rows", "2 rows were cut"]),
        ],
        gradients: GradientTable(
            rows: [
                .init(
                    module: "self_attn.q_proj", method: "LoRA", numConnected: 30, numLayers: 30),
                .init(module: "mlp.up_proj", method: "LoRA", numConnected: 30, numLayers: 30),
            ], numTensors: 120, numConnectedTensors: 120),
        sample: MaskedSample(
            row: 3,
            pieces: [
                .init(text: "<user>\nHi\n", isLearned: false), .init(text: "Ho.", isLearned: true),
            ]), loss: 2.71828)

    /// One that is not.
    private static let cut = PreflightReport(
        checks: [
            .init(
                topic: "adapter", outcome: .failed, findings: ["PEFT-T001: no\n- q_prj", "more"]),
            .init(topic: "gradients", outcome: .skipped, findings: []),
        ],
        gradients: GradientTable(
            rows: [
                .init(
                    module: "mlp.up_proj", method: "LoRA", numConnected: 28, numLayers: 30,
                    blocksWithout: ["0", "1"])
            ], numTensors: 60, numConnectedTensors: 56))

    @Test func readyRunInFull() {
        #expect(
            PreflightText.text(of: Self.ready) == """
                ok   base model    llama
                note rows          12 rows
                                   2 rows were cut

                gradients:
                  self_attn.q_proj  LoRA  30/30 connected
                  mlp.up_proj       LoRA  30/30 connected

                row 3, learned parts in \u{27E6}brackets\u{27E7}:
                  <user>
                  Hi
                  \u{27E6}Ho.\u{27E7}

                preflight: ready: all 120 trainable tensors are connected to the loss (2.7183)

                """)
    }

    @Test func failuresAndWhatWasNotChecked() {
        #expect(
            PreflightText.text(of: Self.cut) == """
                FAIL adapter       PEFT-T001: no
                                   - q_prj
                                   more
                -    gradients     not checked

                gradients:
                  mlp.up_proj  LoRA  28/30 connected, not in blocks 0, 1

                preflight: NOT READY: this run would not do what is meant

                """)
    }

    @Test func doctorEndsWithTheVerdictAsItsStatus() {
        let calls = Calls()
        let arguments = ["doctor", "--model", "m", "--data", "d", "--output-dir", "o"]
        calls.preflight = Self.ready
        let passed = run(arguments, calls: calls)
        #expect(passed.status == 0)
        #expect(passed.output.out == PreflightText.text(of: Self.ready))
        #expect(passed.output.err == "")
        calls.preflight = Self.cut
        let failed = run(arguments, calls: calls)
        #expect(failed.status == 1)
        #expect(
            failed.output.err == """
                peft: error: PEFT-T001: no
                peft: error: - q_prj
                peft: error: more

                """)
        let json = run(arguments + ["--json"], calls: calls)
        #expect(json.status == 1)
        #expect(
            json.output.out.hasPrefix(
                "{\"is_ready\": false, \"checks\": [{\"topic\": \"adapter\", "))
        #expect(json.output.out.contains("\"num_connected\": 28, \"num_layers\": 30"))
    }
}
