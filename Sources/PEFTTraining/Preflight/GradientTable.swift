public import PEFTTokenizers

/// A gradient report by module and method: in how many layers all tensors are connected to the loss.
public struct GradientTable: Sendable, Equatable {
    /// The layers of one name, such as all `mlp.up_proj`.
    public struct Row: Sendable, Equatable {
        /// The path inside of a block: `self_attn.q_proj`; the whole path outside of blocks.
        public let module: String
        /// The adapter method: `LoRA`; empty if it is not known.
        public let method: String
        /// Layers all of whose trainable tensors get a gradient.
        public internal(set) var numConnected: Int
        /// Layers with trainable tensors.
        public internal(set) var numLayers: Int
        /// The blocks of layers that are not connected, by index or path.
        public internal(set) var blocksWithout: [String]

        /// Makes a row of its counts.
        public init(
            module: String, method: String, numConnected: Int, numLayers: Int,
            blocksWithout: [String] = []
        ) {
            self.module = module
            self.method = method
            self.numConnected = numConnected
            self.numLayers = numLayers
            self.blocksWithout = blocksWithout
        }
    }

    /// One row a module name and method, in the model's order.
    public let rows: [Row]
    /// Trainable tensors.
    public let numTensors: Int
    /// Trainable tensors that get a gradient.
    public let numConnectedTensors: Int

    /// Makes a table of its rows.
    public init(rows: [Row], numTensors: Int, numConnectedTensors: Int) {
        self.rows = rows
        self.numTensors = numTensors
        self.numConnectedTensors = numConnectedTensors
    }

    /// Counts over a report.
    public init(_ report: GradientReport) {
        var rows: [Row] = []
        var places: [String: Int] = [:]
        for layer in Self.layers(of: report.entries) {
            let first = layer[0]
            let path = first.layer ?? first.path
            let block = first.block ?? ""
            let module = block.isEmpty ? path : String(path.dropFirst(block.count + 1))
            let method = first.method ?? ""
            let place = places[module + " " + method] ?? rows.count
            if place == rows.count {
                places[module + " " + method] = place
                rows.append(Row(module: module, method: method, numConnected: 0, numLayers: 0))
            }
            rows[place].numLayers += 1
            if layer.allSatisfy(\.isConnected) {
                rows[place].numConnected += 1
            } else {
                rows[place].blocksWithout.append(
                    String(block.split(separator: ".").last ?? "-"))
            }
        }
        self.init(
            rows: rows, numTensors: report.entries.count,
            numConnectedTensors: report.entries.count(where: \.isConnected))
    }

    /// The entries of each layer together, in order.
    private static func layers(of entries: [GradientReport.Entry]) -> [[GradientReport.Entry]] {
        var layers: [[GradientReport.Entry]] = []
        for entry in entries {
            if let last = layers.last?.last, let layer = entry.layer, last.layer == layer {
                layers[layers.count - 1].append(entry)
            } else {
                layers.append([entry])
            }
        }
        return layers
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("num_tensors", .int(numTensors)),
            ("num_connected_tensors", .int(numConnectedTensors)),
            (
                "modules",
                .array(
                    rows.map { row in
                        .object(
                            JSONObject([
                                ("module", .string(row.module)),
                                ("method", .string(row.method)),
                                ("num_connected", .int(row.numConnected)),
                                ("num_layers", .int(row.numLayers)),
                                (
                                    "blocks_without",
                                    .array(row.blocksWithout.map { .string($0) })
                                ),
                            ]))
                    })
            ),
        ])
    }
}
