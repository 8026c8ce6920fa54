import Foundation

/// Why a launch did not begin.
package enum LaunchFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// Somebody listens on the port where the processes would meet.
    case portInUse(port: Int, reason: String)

    /// Port, reason and remedy.
    package var description: String {
        switch self {
        case .portInUse(let port, let reason):
            "--port \(port): rank 0 cannot listen there: \(reason); give another port, or none to take a free one"
        }
    }
}

/// Ports of this machine where the processes of a launch can meet.
enum LaunchPort {
    /// A port of the loopback interface that nobody listens on now.
    static func free() -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        _ = bind(descriptor, to: 0, at: INADDR_LOOPBACK)
        var address = sockaddr_in()
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = getsockname(descriptor, $0, &size)
            }
        }
        return Int(UInt16(bigEndian: address.sin_port))
    }

    /// Checks that a store can be hosted on a port, as libtorch hosts it: on all interfaces.
    ///
    /// - Throws: ``LaunchFailure/portInUse(port:reason:)``.
    static func requireFree(_ port: Int) throws(LaunchFailure) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        // A run that has just ended leaves connections that wait for nothing.
        var isReused: Int32 = 1
        setsockopt(
            descriptor, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(MemoryLayout<Int32>.size))
        guard bind(descriptor, to: UInt16(clamping: port), at: INADDR_ANY) == 0,
            listen(descriptor, 1) == 0
        else {
            throw .portInUse(port: port, reason: String(cString: strerror(errno)))
        }
    }

    private static func bind(_ descriptor: Int32, to port: UInt16, at host: in_addr_t) -> Int32 {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = host.bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
