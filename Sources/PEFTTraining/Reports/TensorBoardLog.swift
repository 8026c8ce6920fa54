package import Foundation
package import PEFTTokenizers

/// The numbers of a run as an event file, which TensorBoard shows.
///
/// A file is records of an event each: its length in 8 bytes and a check of them, its bytes and a check of them. An event is a message of
/// protocol buffers: time, step, and named numbers. A run that is resumed begins another file, whose second event says from which step on
/// the earlier ones no longer hold.
///
/// - Source: tensorflow `core/lib/io/record_writer.cc`, `core/util/event.proto`, `core/framework/summary.proto`; tags as transformers
///   5.23 `integrations/integration_utils.py:TensorBoardCallback` names them.
package final class TensorBoardLog {
    private let handle: FileHandle
    private let path: String
    private let now: () -> Double

    /// Begins a file in `runs` below the output folder.
    ///
    /// - Parameters:
    ///   - folder: the output folder.
    ///   - startStep: steps that the run has done.
    ///   - now: seconds since 1970.
    /// - Throws: ``TrainingError/cannotWriteMetrics(path:reason:)``.
    package init(
        in folder: URL, startStep: Int,
        now: @escaping () -> Double = { Date().timeIntervalSince1970 }
    ) throws {
        self.now = now
        let runs = folder.appending(path: "runs")
        let name = "events.out.tfevents.\(Int(now())).\(startStep)"
        let url = runs.appending(path: name)
        path = url.path
        do {
            try FileManager.default.createDirectory(at: runs, withIntermediateDirectories: true)
            try Data().write(to: url)
            handle = try FileHandle(forWritingTo: url)
        } catch {
            throw TrainingError.cannotWriteMetrics(
                path: url.path, reason: error.localizedDescription)
        }
        var version = ProtocolBuffer()
        version.add(1, now())
        version.add(3, text: "brain.Event:2")
        try write(version)
        guard startStep > 0 else { return }
        var start = ProtocolBuffer()
        start.add(1, 1)  // SessionLog.START
        var event = ProtocolBuffer()
        event.add(1, now())
        event.add(2, startStep + 1)
        event.add(7, start)
        try write(event)
    }

    /// Appends the numbers of a line of `metrics.jsonl`.
    ///
    /// - Throws: ``TrainingError/cannotWriteMetrics(path:reason:)``.
    package func append(_ line: JSONObject) throws {
        var summary = ProtocolBuffer()
        for (key, value) in line where key != "step" {
            guard let number = value.doubleValue else { continue }
            var scalar = ProtocolBuffer()
            scalar.add(1, text: Self.tag(key))
            scalar.add(2, Float(number))
            summary.add(1, scalar)
        }
        var event = ProtocolBuffer()
        event.add(1, now())
        // Zeros are not written in this encoding.
        if let step = line["step"]?.intValue, step != 0 { event.add(2, step) }
        event.add(5, summary)
        try write(event)
    }

    private static func tag(_ key: String) -> String {
        key.hasPrefix("eval_") ? "eval/" + key.dropFirst(5) : "train/" + key
    }

    private func write(_ event: ProtocolBuffer) throws {
        let length = UInt64(event.bytes.count).littleEndianBytes
        let record =
            length + CRC32C.masked(length).littleEndianBytes + event.bytes
            + CRC32C.masked(event.bytes).littleEndianBytes
        do {
            try handle.write(contentsOf: Data(record))
        } catch {
            throw TrainingError.cannotWriteMetrics(path: path, reason: error.localizedDescription)
        }
    }
}

/// A message of protocol buffers as it is built, field by field.
///
/// - Source: protobuf.dev, "Encoding".
private struct ProtocolBuffer {
    private(set) var bytes: [UInt8] = []

    private enum WireType: Int {
        case variable = 0
        case eightBytes = 1
        case delimited = 2
        case fourBytes = 5
    }

    private mutating func begin(_ field: Int, _ type: WireType) {
        add(UInt64(field << 3 | type.rawValue))
    }

    private mutating func add(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func add(_ field: Int, _ value: Int) {
        begin(field, .variable)
        add(UInt64(bitPattern: Int64(value)))
    }

    mutating func add(_ field: Int, _ value: Double) {
        begin(field, .eightBytes)
        bytes += value.bitPattern.littleEndianBytes
    }

    mutating func add(_ field: Int, _ value: Float) {
        begin(field, .fourBytes)
        bytes += value.bitPattern.littleEndianBytes
    }

    mutating func add(_ field: Int, text: String) { add(field, bytes: Array(text.utf8)) }

    mutating func add(_ field: Int, _ message: ProtocolBuffer) { add(field, bytes: message.bytes) }

    private mutating func add(_ field: Int, bytes contents: [UInt8]) {
        begin(field, .delimited)
        add(UInt64(contents.count))
        bytes += contents
    }
}

extension FixedWidthInteger {
    /// The bytes, the lowest first.
    fileprivate var littleEndianBytes: [UInt8] {
        (0..<bitWidth / 8).map { UInt8(truncatingIfNeeded: self >> ($0 * 8)) }
    }
}
