import PEFTLayers
import Torch

/// Finds where the path of gradients from the loss to a trainable tensor is cut.
///
/// The path of numbers is followed from the tensor to the loss, through detached and unrecorded operations as well. Where a value that
/// has a gradient goes into an event and none comes out, the path is cut; of several cuts the one nearest to the loss is
/// the first on the way back, so it is the one to mend first.
struct GradientPath {
    /// A cut, and where it lies in the forward pass.
    struct Cut {
        let anchor: [Int]
        let diagnosis: Diagnosis
    }

    private let record: ComputationRecord
    private let reachesLoss: [Bool]
    private let captures: [Int: [ComputationRecord.Use]]

    /// Prepares the search.
    ///
    /// - Parameters:
    ///   - record: forward and backward pass.
    ///   - loss: the tensor that was differentiated, or could not be.
    init(_ record: ComputationRecord, loss: Tensor) {
        self.record = record
        reachesLoss = record.lastValue(of: loss).map(record.ancestors) ?? []
        captures = Dictionary(
            uniqueKeysWithValues: record.nodeEvents.keys.map { ($0, record.captures(of: $0)) })
    }

    /// The cut that keeps a tensor from its gradient.
    ///
    /// - Parameters:
    ///   - parameter: a trainable tensor that got no gradient.
    ///   - layer: the layer that it belongs to, if it is known.
    /// - Returns: the cut nearest to the loss.
    func cut(of parameter: Parameter, in layer: String?) -> Cut {
        guard let value = record.firstValue(of: parameter.value) else {
            return unused(parameter, in: layer)
        }
        let depends = record.descendants(of: value)
        var nearest: Cut?
        for event in record.events {
            guard event.outputs.contains(where: { reachesLoss[$0.value] }),
                let diagnosis = diagnosis(of: event, depends)
            else { continue }
            if let found = nearest, !found.anchor.lexicographicallyPrecedes(event.anchor) {
                continue
            }
            nearest = Cut(anchor: event.anchor, diagnosis: diagnosis)
        }
        return nearest ?? lost(parameter, depends)
    }

    // MARK: - One event

    /// What is wrong if an event takes a dependent value with a gradient and gives one without.
    private func diagnosis(
        of event: ComputationRecord.Event, _ depends: [Bool]
    ) -> Diagnosis? {
        func isLost(_ use: ComputationRecord.Use) -> Bool {
            use.requiresGrad && depends[use.value]
        }
        switch (event.kind, event.recording) {
        case (.operation, .on):
            guard !event.isAttached, event.inputs.contains(where: isLost) else { return nil }
            return event.name == "detach" ? detached(event) : notDifferentiable(event)
        case (.operation, .off):
            return event.inputs.contains(where: isLost) ? notRecorded(event) : nil
        case (.node(let node), .on):
            if captures[node]?.contains(where: isLost) == true { return undeclared(event) }
            guard let isReturned = record.returnedGradients[node],
                let input = event.inputs.indices.first(where: {
                    isLost(event.inputs[$0]) && !isReturned[$0]
                })
            else { return nil }
            return notReturned(event, input)
        case (.node(let node), .off):
            let all = event.inputs + (captures[node] ?? [])
            return all.contains(where: isLost) ? notRecorded(event) : nil
        default:
            return nil
        }
    }

    private func place(_ event: ComputationRecord.Event) -> String {
        event.layer.isEmpty ? "outside of all layers" : event.layer
    }

    private func detached(_ event: ComputationRecord.Event) -> Diagnosis {
        Diagnosis(
            .detached, at: place(event), "`detach` ends the path of gradients here",
            remedy: "remove the detach(): what is before it is to be trained")
    }

    private func notRecorded(_ event: ComputationRecord.Event) -> Diagnosis {
        Diagnosis(
            .noGradRegion, at: place(event), "`\(event.name)` ran while nothing was recorded",
            remedy: "take the forward pass of training out of withoutGrad { }")
    }

    private func notDifferentiable(_ event: ComputationRecord.Event) -> Diagnosis {
        let dtypes = event.outputs.map(\.dtype.name).joined(separator: ", ")
        return Diagnosis(
            .notDifferentiable, at: place(event),
            "`\(event.name)` gives \(dtypes), which has no gradient",
            remedy: "compute this in a floating-point dtype, or write an Autograd.node with a "
                + "pullback for it")
    }

    private func undeclared(_ event: ComputationRecord.Event) -> Diagnosis {
        let isCutOff = event.isAttached ? "" : ", and none of its inputs requires grad"
        return Diagnosis(
            .undeclaredCapture, at: place(event),
            "the node `\(event.name)` uses trainable tensors that are not among its inputs"
                + isCutOff,
            remedy:
                "give them as its inputs (RecomputedExecution and Autograd.recomputed take them "
                + "as parameters); code that calls backward in its pullback needs "
                + "enableInputRequireGrads()")
    }

    private func notReturned(_ event: ComputationRecord.Event, _ input: Int) -> Diagnosis {
        Diagnosis(
            .noGradientReturned, at: place(event),
            "the pullback of the node `\(event.name)` returns no gradient for its input \(input)",
            remedy: "return a gradient for every input that requires grad")
    }

    // MARK: - No cut on the way

    private func unused(_ parameter: Parameter, in layer: String?) -> Cut {
        let place = layer ?? parameter.path
        let wasCalled = layer.map(record.layers.contains) ?? false
        let diagnosis =
            wasCalled
            ? Diagnosis(
                .adapterInactive, at: place, "the layer ran, but not the adapter on it",
                remedy: "run the forward pass of training with its adapters "
                    + "(ForwardContext.usesAdapters), and attach them to the layer that runs")
            : Diagnosis(
                .moduleNotCalled, at: place, "the forward pass does not call it",
                remedy: "call it, or leave it out: --exclude-modules, --layers-to-transform")
        return Cut(anchor: [], diagnosis: diagnosis)
    }

    private func lost(_ parameter: Parameter, _ depends: [Bool]) -> Cut {
        let last = record.events.last { event in
            event.frame?.isPullback != true && event.inputs.contains { depends[$0.value] }
        }
        guard let last else { return unused(parameter, in: nil) }
        let end =
            last.kind == .copyToHost
            ? "`\(last.name)` copies its result out of the graph"
            : "the result of `\(last.name)` is not used for the loss"
        return Cut(
            anchor: last.anchor,
            diagnosis: Diagnosis(
                .resultUnused, at: place(last), end,
                remedy: "let the loss depend on the result as a tensor"))
    }
}
