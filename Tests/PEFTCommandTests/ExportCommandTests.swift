import Foundation
import PEFT
import PEFTCommand
import PEFTTraining
import Testing

/// What merging, quantizing and exporting print.
@Suite struct ExportCommandTests {
    @Test func mergesReportWhatIsLeftOfTheUpdate() {
        let calls = Calls()
        calls.merged.layers = [
            UpdateSurvival(
                path: "model.layers.0.self_attn.q_proj.weight", weightSquares: 100,
                updateSquares: 1, products: 0.25, errorSquares: 0.04),
            UpdateSurvival(
                path: "model.layers.0.mlp.up_proj.weight", weightSquares: 100, updateSquares: 4,
                products: 4, errorSquares: 0),
        ]
        let (status, output) = run(
            ["merge", "--adapter", "out", "--output", "merged", "--dtype", "bfloat16"],
            calls: calls)
        #expect(status == 0)
        #expect(calls.mergeOptions?.dtype == .bfloat16)
        #expect(
            output.out == """
                merged 2 layers into merged: model.safetensors, 1.23 kB, in bfloat16
                the update was added to the numbers of the base's files
                what is left of the update after rounding, and what rounding adds to it:
                  layers   count  update/weight  survives    least   noise
                  q_proj       1         10.0 %    25.0 %   25.0 %  20.0 %
                  up_proj      1         20.0 %   100.0 %  100.0 %  0.00 %
                  all          2         15.8 %    85.0 %   25.0 %  8.94 %
                warning: model.layers.0.self_attn.q_proj.weight: 25.0 % of the update survives

                """)
    }

    @Test func combinedAdaptersAreNamed() {
        let calls = Calls()
        let (status, output) = run(
            [
                "combine", "--adapter", "a:0.7", "--adapter", "b:-0.3", "--type", "ties",
                "--density", "0.5", "--output", "both",
            ], calls: calls)
        #expect(status == 0)
        #expect(output.out == "adapter: both, ties of rank 8, 14 layers, 2.47 kB\n")
        let options = calls.combineOptions
        #expect(options?.adapter.sources.map(\.path) == ["a", "b"])
        #expect(options?.adapter.weights == [0.7, -0.3])
        #expect(options?.density == 0.5)
    }

    @Test func quantizedModelsAreNamed() {
        let (status, output) = run(["quantize", "--model", "base", "--output", "four"])
        #expect(status == 0)
        #expect(
            output.out == """
                model: four, 1,234 parameters, nf4, block 64, 2.47 kB in 1 files
                note: a note

                """)
    }

    @Test func exportedAdaptersAreNamed() {
        let (status, output) = run(["export", "--adapter", "out", "--output", "a.gguf"])
        #expect(status == 0)
        #expect(output.out == "adapter: a.gguf, 14 layers, 2.47 kB\n")
    }

    @Test(arguments: [
        (
            ["merge", "--adapter", "out"],
            "output is required (where the merged model goes): give --output"
        ),
        (
            [
                "merge", "--adapter", "a", "--output", "b", "--format", "gguf-f16", "--dtype",
                "float32",
            ],
            "--dtype: has no effect on a GGUF file: leave it out"
        ),
        (
            ["combine", "--output", "both"],
            "adapter is required (the adapters to combine): give --adapter"
        ),
        (
            ["combine", "--adapter", "a:1", "--adapter", "b", "--output", "both"],
            "--adapter: expected FOLDER:WEIGHT, a finite weight with each folder, found [\"a:1\", b]"
        ),
        (
            ["combine", "--adapter", "a:1", "--adapter", "b:1", "--output", "c", "--type", "ties"],
            "density: expected a number above 0, at most 1, found none"
        ),
        (
            ["quantize", "--model", "a", "--output", "b", "--quant-block-size", "48"],
            "--quant-block-size: expected a power of two from 32 to 4096, found 48"
        ),
    ])
    func wrongUseIsExplained(_ arguments: [String], _ message: String) {
        let (status, output) = run(arguments)
        #expect(status == 2)
        #expect(output.err.contains(message), "\(output.err)")
    }
}
