import PEFT
import PEFTCommand
import PEFTTraining
import Testing

@Suite struct TrainingReportTests {
    static func step(_ number: Int) -> StepMetrics {
        StepMetrics(
            step: number, loss: 2.5 - Double(number) / 100, gradNorm: 0.5, learningRate: 2e-4,
            numTargetTokens: 800, tokensPerSecond: 1345.6, peakMemoryBytes: 1_940_000_000)
    }

    static let started = TrainingEvent.started(
        RunDescription(
            model: "base", outputDir: "out", quantization: "nf4, block 64, double quantized",
            dtype: "bfloat16", startStep: 0, totalSteps: 60, numThreads: 2))

    @Test func plainLinesForLogs() {
        let output = Output()
        var report = TrainingReport(console: output.console(), asJSON: false)
        let events: [TrainingEvent] = [
            Self.started,
            .loaded(
                ModelDescription(
                    architecture: "llama", numParameters: 134_515_008,
                    numTrainableParameters: 4_884_480, numAdaptedLinears: 210,
                    weightSizeBytes: 112_000_000, numElementsRead: 134_515_008, loadSeconds: 1.25)),
            .datasetAudit(
                DatasetSummary(
                    path: "train.jsonl", numRows: 2000, numTokens: 98_765, numTargetTokens: 43_210,
                    maxRowTokens: 312, numTruncatedRows: 2, warnings: ["no target ends a text"])),
            .preflight(PreflightTextTests.ready),
            .notice("something to know"),
        ]
        for event in events { report.show(event) }
        for number in 1...20 {
            output.seconds += 3
            report.show(.step(Self.step(number), isLogged: number % 10 == 0))
        }
        report.show(
            .evaluation(
                EvaluationMetrics(
                    step: 20, evalLoss: 2, evalPerplexity: 7.389, evalNumTargetTokens: 4321)))
        report.show(.checkpointSaved(path: "out/checkpoint-20", step: 20))
        report.show(
            .finished(
                RunSummary(
                    step: 60, trainSeconds: 180, tokensPerSecond: 340,
                    peakMemoryBytes: 1_940_000_000, plannedMemoryBytes: 2_000_000_000,
                    sentBytesPerStep: 5_100_000, plannedSentBytesPerStep: 5_000_000,
                    trainLoss: 1.9, firstEvalLoss: 2.9, lastEvalLoss: 2, outputDir: "out")))
        report.end()
        #expect(output.out == "")
        #expect(
            output.err == """
                base: base (nf4, block 64, double quantized; compute bfloat16, 2 threads)
                run: 60 steps, output in out
                model: llama, 134,515,008 parameters in 112 MB, loaded in 1.2 s
                adapter: 4,884,480 trainable parameters (3.63 %) on 210 linears
                rows: train.jsonl: 2,000 rows, 98,765 tokens, 43,210 of them targets, longest row 312, 2 rows cut
                note: train.jsonl: no target ends a text
                  self_attn.q_proj  LoRA  30/30 connected
                  mlp.up_proj       LoRA  30/30 connected
                preflight: ready: all 120 trainable tensors are connected to the loss (2.7183)
                note: something to know
                step 10/60  loss 2.4000  1,346 tok/s  ETA 2:30  1.94 GB  lr 2.0e-04  grad norm 0.500
                step 20/60  loss 2.3000  1,346 tok/s  ETA 2:00  1.94 GB  lr 2.0e-04  grad norm 0.500
                evaluation after step 20: loss 2.0000, perplexity 7.39, 4,321 target tokens
                checkpoint of step 20: out/checkpoint-20
                done: 60 steps in 3:00, 340 tokens/s, peak memory 1.94 GB, last loss 1.9000
                plan: 2.00 GB at the peak, and it was 3 % less
                traffic: 5.10 MB sent a step, planned 5.00 MB
                held-out loss: 2.9000 before, 2.0000 after
                adapter: out

                """)
    }

    @Test func aLiveLineOnATerminal() {
        let output = Output()
        let console = output.console(isTerminal: true, usesColor: false, width: 80)
        var report = TrainingReport(console: console, asJSON: false)
        report.show(Self.started)
        output.err = ""
        output.seconds = 10
        report.show(.step(Self.step(30), isLogged: true))
        let bar = "step 30/60 [====     ]  loss 2.2000  1,346 tok/s  ETA 0:10  1.94 GB  lr 2.0e-04"
        #expect(output.err == "\r\u{1B}[2K" + bar)

        output.err = ""
        output.seconds = 10.05
        report.show(.step(Self.step(31), isLogged: false))
        #expect(output.err == "")  // too soon after the last redraw

        report.show(.checkpointSaved(path: "c", step: 31))
        let next = "step 31/60 [====     ]  loss 2.1900  1,346 tok/s  ETA 0:09  1.94 GB  lr 2.0e-04"
        #expect(output.err == "\r\u{1B}[2Kcheckpoint of step 31: c\n\r\u{1B}[2K" + next)

        output.err = ""
        report.end()
        #expect(output.err == "\r\u{1B}[2K" + next + "\n")
        report.end()
        #expect(output.err == "\r\u{1B}[2K" + next + "\n")
    }

    @Test(
        arguments: [
            (
                200,
                "step 15/60 [==========                              ]  loss 2.3500  1,346 tok/s  ETA 0:15  1.94 GB  lr 2.0e-04  grad norm 0.500"
            ),
            (
                90,
                "step 15/60 [=====               ]  loss 2.3500  1,346 tok/s  ETA 0:15  1.94 GB  lr 2.0e-04"
            ),
            (60, "step 15/60  loss 2.3500  1,346 tok/s  ETA 0:15  1.94 GB"),
            (30, "step 15/60  loss 2.3500"), (12, "step 15/60"), (4, "step"), (0, ""),
        ])
    func theBarFitsItsWidth(width: Int, expected: String) {
        var progress = Progress()
        progress.start(at: 0, of: 60, seconds: 5)
        progress.advance(to: Self.step(15), seconds: 10)
        let bar = progress.bar(width: width, usesColor: false)
        #expect(bar.count <= width)
        #expect(bar == expected)
    }

    @Test func colorsDoNotChangeTheText() {
        var progress = Progress()
        progress.start(at: 0, of: 60, seconds: 0)
        progress.advance(to: Self.step(15), seconds: 5)
        let colored = progress.bar(width: 90, usesColor: true)
        let plain = progress.bar(width: 90, usesColor: false)
        #expect(colored != plain)
        #expect(
            colored.replacing("\u{1B}[32m", with: "").replacing("\u{1B}[0m", with: "") == plain)
    }

    @Test func aResumedRunMeasuresItsOwnPace() {
        var progress = Progress()
        progress.start(at: 40, of: 60, seconds: 0)
        progress.advance(to: Self.step(50), seconds: 20)
        #expect(progress.line.contains("ETA 0:20"))
    }

    @Test func eventsAreJSONLinesForPrograms() {
        let calls = Calls()
        calls.events = [
            .step(Self.step(1), isLogged: true), .notice("n \"q\""),
            .checkpointSaved(path: "out/checkpoint-1", step: 1),
        ]
        let (status, output) = run(
            ["train", "--model", "m", "--data", "d", "--output-dir", "o", "--json"], calls: calls)
        #expect(status == 0)
        #expect(output.err == "")
        #expect(
            output.out == """
                {"event": "step", "step": 1, "loss": 2.49, "grad_norm": 0.5, "learning_rate": 0.0002, \
                "num_target_tokens": 800, "tokens_per_second": 1345.6, "peak_memory_bytes": 1940000000, \
                "is_logged": true}
                {"event": "notice", "text": "n \\"q\\""}
                {"event": "checkpoint_saved", "path": "out/checkpoint-1", "step": 1}

                """)
    }

    @Test(arguments: [(Int32(2), "SIGINT", Int32(130)), (15, "SIGTERM", 143)])
    func aStoppedRunHasTheSignalsStatus(signal: Int32, name: String, expected: Int32) {
        let calls = Calls()
        calls.events = [.interrupted(signal: name, step: 7)]
        let stop = StopRequest()
        stop.request(signal: signal)
        let output = Output()
        let command = Command(console: output.console(), library: calls.library, stop: stop)
        let status = command.run(["train", "--model", "m", "--data", "d", "--output-dir", "o"])
        #expect(status == expected)
        #expect(output.err == "note: stopped by \(name) after step 7; --resume continues\n")
    }
}

@Suite struct NumberFormatTests {
    @Test(
        arguments: [
            (0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567"),
            (Int.min, "-9,223,372,036,854,775,808"),
        ])
    func counts(number: Int, text: String) {
        #expect(NumberFormat.count(number) == text)
    }

    @Test(
        arguments: [
            (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_999, "1.00 MB"),
            (1_940_000_000, "1.94 GB"), (112_000_000, "112 MB"), (23_400_000, "23.4 MB"),
            (2_000_000_000_000_000_000, "2000 PB"),
        ])
    func bytes(number: Int, text: String) {
        #expect(NumberFormat.bytes(number) == text)
    }

    @Test(
        arguments: [
            (0.0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03"),
            (-1, "0:00"), (.infinity, "-:--"), (.nan, "-:--"),
        ])
    func durations(seconds: Double, text: String) {
        #expect(NumberFormat.duration(seconds) == text)
    }

    @Test(arguments: [
        (7.54, "7.5"), (9.96, "10"), (1345.6, "1,346"), (.nan, "-"), (.infinity, "-"),
    ])
    func rates(value: Double, text: String) {
        #expect(NumberFormat.rate(value) == text)
    }
}
