/// Slurm's short form of a list of hosts: `gpu5,node[01-03,07],rack[1-2]n[1-4]`.
package enum SlurmNodeList {
    /// The hosts in the list's order, with the zeros that pad their numbers; nil if the list is malformed.
    ///
    /// Of several brackets in one name the last counts fastest, as in `scontrol show hostnames`.
    package static func expand(_ list: String) -> [String]? {
        guard let names = split(list) else { return nil }
        var hosts: [String] = []
        for name in names {
            guard let expanded = expandName(name) else { return nil }
            hosts += expanded
        }
        return hosts
    }

    /// Cuts at the commas outside of brackets.
    private static func split(_ list: String) -> [Substring]? {
        var names: [Substring] = []
        var start = list.startIndex
        var isInside = false
        for index in list.indices {
            switch list[index] {
            case "[":
                guard !isInside else { return nil }
                isInside = true
            case "]":
                guard isInside else { return nil }
                isInside = false
            case "," where !isInside:
                names.append(list[start..<index])
                start = list.index(after: index)
            default: break
            }
        }
        names.append(list[start...])
        return isInside || names.contains { $0.isEmpty } ? nil : names
    }

    private static func expandName(_ name: Substring) -> [String]? {
        guard let open = name.firstIndex(of: "["), let close = name.firstIndex(of: "]") else {
            return [String(name)]
        }
        guard let rest = expandName(name[name.index(after: close)...]) else { return nil }
        var hosts: [String] = []
        let ranges = name[name.index(after: open)..<close]
        for range in ranges.split(separator: ",", omittingEmptySubsequences: false) {
            guard let numbers = expandRange(range) else { return nil }
            for number in numbers { hosts += rest.map { name[..<open] + number + $0 } }
        }
        return hosts
    }

    /// `01-03` to 01, 02, 03; `7` to itself.
    private static func expandRange(_ range: Substring) -> [String]? {
        let bounds = range.split(separator: "-", omittingEmptySubsequences: false)
        guard bounds.count <= 2, bounds.allSatisfy({ $0.allSatisfy(\.isWholeNumber) }),
            let low = bounds.first, let high = bounds.last,
            let first = Int(low), let last = Int(high), first <= last, last - first < 1 << 20
        else { return nil }
        return (first...last).map { number in
            let digits = String(number)
            return String(repeating: "0", count: max(0, low.count - digits.count)) + digits
        }
    }
}
