import CTorch

/// Keys and values that all processes of a run share; where they find each other before they are connected.
///
/// Values are small. Tensors travel through a ``ProcessGroup``.
package final class Store {
    let handle: OpaquePointer

    private init(owning handle: OpaquePointer) {
        self.handle = handle
    }

    deinit {
        ctorch_distributed_store_free(handle)
    }

    /// The store of a TCP server, which one of the processes hosts or somebody else has started.
    ///
    /// - Parameters:
    ///   - host: the server's name or address.
    ///   - port: the server's port.
    ///   - isServer: whether this process hosts it; it ends with this process.
    ///   - timeoutSeconds: how long to try to reach it.
    /// - Returns: the store.
    /// - Throws: `TorchError` if the port is taken, or if nobody answers in time.
    package static func tcp(
        host: String, port: UInt16, isServer: Bool, timeoutSeconds: Double
    ) throws(TorchError) -> Store {
        try make(
            isServer ? "host a store at \(host):\(port)" : "reach the store at \(host):\(port)"
        ) {
            ctorch_distributed_tcp_store(host, port, isServer, timeoutSeconds, $0)
        }
    }

    /// The store of a file that all processes can lock and write; for one machine or a shared file system.
    ///
    /// - Parameters:
    ///   - path: the file; new for every run, removed when the last rank has closed it.
    ///   - numRanks: how many processes open it.
    ///   - timeoutSeconds: how long to wait for a key.
    /// - Returns: the store.
    /// - Throws: `TorchError` if the file cannot be opened.
    package static func file(
        _ path: String, numRanks: Int, timeoutSeconds: Double
    ) throws(TorchError) -> Store {
        try make("open the store in \(path)") {
            ctorch_distributed_file_store(path, Int32(clamping: numRanks), timeoutSeconds, $0)
        }
    }

    /// A store in this process's memory, for a run of one process.
    package static func inMemory() throws(TorchError) -> Store {
        try make("store in memory") { ctorch_distributed_memory_store($0) }
    }

    /// This store seen through a prefix: a name space of its own.
    package func prefixed(by prefix: String) throws(TorchError) -> Store {
        try Store.make("prefix \(prefix)") {
            ctorch_distributed_prefix_store(prefix, handle, $0)
        }
    }

    /// Sets a key to a text.
    package func set(_ key: String, to value: String) throws(TorchError) {
        let bytes = Array(value.utf8)
        try check(
            "Store.set", [], ctorch_distributed_store_set(handle, key, bytes, bytes.count))
    }

    /// Adds to a counter, which starts at zero, and returns the sum; no other process comes in between.
    package func add(_ amount: Int, to key: String) throws(TorchError) -> Int {
        var sum: Int64 = 0
        try check(
            "Store.add", [], ctorch_distributed_store_add(handle, key, Int64(amount), &sum))
        return Int(sum)
    }

    /// Whether a key has been set; does not wait.
    package func has(_ key: String) throws(TorchError) -> Bool {
        var result = false
        try check("Store.has", [], ctorch_distributed_store_check(handle, key, &result))
        return result
    }

    /// Waits for a key and returns its text.
    ///
    /// - Throws: `TorchError` if nobody sets the key in time, or if the store is gone.
    package func text(_ key: String, timeoutSeconds: Double) throws(TorchError) -> String {
        var bytes: UnsafePointer<UInt8>?
        var count = 0
        try check(
            "Store.text", [],
            ctorch_distributed_store_get(handle, key, timeoutSeconds, &bytes, &count))
        return String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
    }

    private static func make(
        _ operation: String, _ call: (UnsafeMutablePointer<OpaquePointer?>) -> Int32
    ) throws(TorchError) -> Store {
        var out: OpaquePointer?
        guard call(&out) == 0, let out else { throw TorchError.last(operation, []) }
        return Store(owning: out)
    }
}
