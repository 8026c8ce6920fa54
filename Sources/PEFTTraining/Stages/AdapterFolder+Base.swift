import Foundation
import PEFTCheckpoints

extension AdapterFolder {
    /// Compares the base that the adapter was trained on with the one it is to be attached to.
    ///
    /// A folder that does not name its base, as PEFT writes it, passes.
    ///
    /// - Parameters:
    ///   - found: the fingerprint of that base model.
    ///   - model: where it is.
    ///   - name: what the adapter's configuration calls its base.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/otherBase``, naming both.
    func requireBase(
        _ found: BaseFingerprint, of model: String, name: String?
    ) throws(Diagnosis) {
        guard let text = baseFingerprint else { return }
        let trainedOn = name.map { " (\($0))" } ?? ""
        guard let expected = BaseFingerprint(text) else {
            throw Diagnosis(
                .otherBase, at: url.path,
                """
                the fingerprint "\(text)" of the base model that the adapter was trained on\(trainedOn) \
                is none that this version can compare with \(model)
                """,
                remedy: Self.remedy)
        }
        guard expected == found else {
            throw Diagnosis(
                .otherBase, at: url.path,
                """
                the adapter was trained on another base model: expected \
                \(Self.summary(of: expected))\(trainedOn), found \(Self.summary(of: found)) (\(model))
                """,
                remedy: Self.remedy)
        }
    }

    private static let remedy = """
        give the model that it was trained on, or --ignore-base-fingerprint to use this one all \
        the same
        """

    private static func summary(of base: BaseFingerprint) -> String {
        "\(base.digest) of \(base.numTensors) tensors and \(base.numElements) elements"
    }
}
