import Glibc

/// The address under which other hosts reach this one.
enum LocalAddress {
    /// This host's address on the route to another one, as a number; nil if the name is unknown or there is no route.
    ///
    /// The name of this host is no help: many systems resolve it to 127.0.0.1 or 127.0.1.1. Nothing is sent.
    static func onRoute(to host: String, port: UInt16) -> String? {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, String(port), &hints, &list) == 0, let list else { return nil }
        defer { freeaddrinfo(list) }
        var next: UnsafeMutablePointer<addrinfo>? = list
        while let entry = next {
            if let address = source(of: entry.pointee) { return address }
            next = entry.pointee.ai_next
        }
        return nil
    }

    /// What the kernel would send from; nil if it has no route.
    private static func source(of entry: addrinfo) -> String? {
        let descriptor = socket(entry.ai_family, entry.ai_socktype, 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        guard connect(descriptor, entry.ai_addr, entry.ai_addrlen) == 0 else { return nil }
        var own = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let code = withUnsafeMutablePointer(to: &own) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address -> Int32 in
                guard getsockname(descriptor, address, &size) == 0 else { return -1 }
                return getnameinfo(
                    address, size, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
            }
        }
        guard code == 0 else { return nil }
        return String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
