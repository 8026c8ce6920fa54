import PEFTTokenizers

/// SplitMix64: the same seed gives the same inputs.
struct FuzzRandom: RandomNumberGenerator {
    private var state: UInt64

    /// Starts the sequence of input number `index` of a seed.
    init(seed: UInt64, index: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 ^ index << 20 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }
}

/// Changes a valid input in one to four places, by what it is made of: bytes, words, JSON values.
struct Mutation {
    private var random: FuzzRandom
    private let words: [[UInt8]]

    init(random: FuzzRandom, words: [String]) {
        self.random = random
        self.words = words.map { Array($0.utf8) }
    }

    /// The files of one of the samples with one of them changed.
    mutating func changed(_ samples: [[String: [UInt8]]]) -> [String: [UInt8]] {
        guard var files = samples.randomElement(using: &random),
            let name = files.keys.sorted().randomElement(using: &random)
        else { return [:] }
        let others = samples.compactMap { $0[name] }
        var bytes = files[name] ?? []
        if let tree = Self.json(bytes), Bool.random(using: &random) {
            bytes = Self.joined(tree.prefix, changed(tree.value), tree.suffix)
            if !tree.prefix.isEmpty && Int.random(in: 0..<4, using: &random) > 0 {
                files[name] = bytes
                return files
            }
        }
        for _ in 0..<Int.random(in: 1...4, using: &random) { change(&bytes, others) }
        files[name] = bytes
        return files
    }

    // MARK: Bytes

    private static let numbers: [UInt64] = [
        0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
        0x1_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, .max, .max - 7, 1 << 40,
    ]

    private static let numerals = [
        "0", "-1", "1e999", "-0.0", "9223372036854775807", "9223372036854775808", "1e-5", "NaN",
        "4294967296", "99999999999999999999999999", "0.1", "16777215", "16777216", "1e18", "true",
    ]

    private mutating func place(_ bytes: [UInt8]) -> Int {
        Int.random(in: 0...bytes.count, using: &random)
    }

    private mutating func range(_ bytes: [UInt8], upTo length: Int = 64) -> Range<Int> {
        let start = place(bytes)
        return start..<min(bytes.count, start + Int.random(in: 0...length, using: &random))
    }

    private mutating func change(_ bytes: inout [UInt8], _ others: [[UInt8]]) {
        switch Int.random(in: 0..<13, using: &random) {
        case 0:
            guard let index = bytes.indices.randomElement(using: &random) else { return }
            bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1:
            guard let index = bytes.indices.randomElement(using: &random) else { return }
            bytes[index] = UInt8.random(in: .min ... .max, using: &random)
        case 2: bytes.removeSubrange(range(bytes))
        case 3:
            let copied = Array(bytes[range(bytes)])
            bytes.insert(contentsOf: copied, at: place(bytes))
        case 4: bytes.removeSubrange(place(bytes)...)
        case 5:
            let other = others.randomElement(using: &random) ?? []
            let copied = Array(other[range(other, upTo: 400)])
            bytes.insert(contentsOf: copied, at: place(bytes))
        case 6, 7:
            let size = [1, 2, 4, 8].randomElement(using: &random) ?? 8
            let number = Self.numbers.randomElement(using: &random) ?? 0
            // Half of them at the start, where binary files have their sizes.
            let end = max(bytes.count - size, 0)
            let start = Int.random(
                in: 0...(Bool.random(using: &random) ? min(end, 64) : end), using: &random)
            guard start + size <= bytes.count else { return }
            for byte in 0..<size {
                bytes[start + byte] = UInt8(truncatingIfNeeded: number >> (8 * byte))
            }
        case 8, 9:
            guard let word = words.randomElement(using: &random) else { return }
            let replaced = Bool.random(using: &random) ? range(bytes, upTo: 12) : nil
            let start = place(bytes)
            bytes.replaceSubrange(replaced ?? start..<start, with: word)
        case 10: replaceNumeral(&bytes)
        case 11:
            let opening = Array(
                (["[", "(", "{\"a\":", "- ", "{% if 1 %}", "not ", "\u{301}"].randomElement(
                    using: &random) ?? "[").utf8)
            let count = [3, 150, 600, 20_000].randomElement(using: &random) ?? 3
            bytes.insert(
                contentsOf: repeatElement(opening, count: count).joined(), at: place(bytes))
        default:
            let odd =
                ["\u{0}", "\u{FEFF}", "\u{2028}", "😀", "\r\n", "\"", "\\", "\t"].randomElement(
                    using: &random) ?? ""
            let broken: [UInt8] =
                [[0xFF], [0xC3], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80]].randomElement(
                    using: &random) ?? []
            bytes.insert(
                contentsOf: Bool.random(using: &random) ? Array(odd.utf8) : broken, at: place(bytes)
            )
        }
    }

    private mutating func replaceNumeral(_ bytes: inout [UInt8]) {
        let isDigit = { (byte: UInt8) in (0x30...0x39).contains(byte) }
        let start = place(bytes)
        guard let first = bytes[start...].firstIndex(where: isDigit) else { return }
        let end = bytes[first...].firstIndex { !isDigit($0) } ?? bytes.count
        let numeral = Self.numerals.randomElement(using: &random) ?? "0"
        bytes.replaceSubrange(first..<end, with: numeral.utf8)
    }

    // MARK: JSON

    /// The JSON value that a file is or, behind eight bytes of its length, starts with.
    private static func json(
        _ bytes: [UInt8]
    ) -> (prefix: [UInt8], value: JSONValue, suffix: [UInt8])? {
        func parse(_ part: ArraySlice<UInt8>) -> JSONValue? {
            Array(part).withUnsafeBytes { try? JSONValue(parsing: $0) }
        }
        if bytes.first == UInt8(ascii: "{"), let value = parse(bytes[...]) {
            return ([], value, [])
        }
        guard bytes.count > 10, bytes[8] == UInt8(ascii: "{") else { return nil }
        let length = Int(bytes[0]) | Int(bytes[1]) << 8 | Int(bytes[2]) << 16
        guard 8 + length <= bytes.count, let value = parse(bytes[8..<8 + length]) else {
            return nil
        }
        return (Array(bytes[..<8]), value, Array(bytes[(8 + length)...]))
    }

    private static func joined(_ prefix: [UInt8], _ value: JSONValue, _ suffix: [UInt8]) -> [UInt8]
    {
        let text = Array(value.serialized().utf8)
        if prefix.isEmpty { return text }
        return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text + suffix
    }

    /// The value with one of its nodes changed.
    private mutating func changed(_ value: JSONValue) -> JSONValue {
        switch value {
        case .object(let object)
        where object.count > 0 && Int.random(in: 0..<5, using: &random) > 0:
            let keys = Array(object.keys)
            guard let key = keys.randomElement(using: &random) else { return value }
            var object = object
            switch Int.random(in: 0..<8, using: &random) {
            case 0: object[key] = nil
            case 1: object[(keys.randomElement(using: &random) ?? "") + "x"] = object[key]
            default: object[key] = changed(object[key] ?? .null)
            }
            return .object(object)
        case .array(var array) where !array.isEmpty && Int.random(in: 0..<5, using: &random) > 0:
            let index = Int.random(in: 0..<array.count, using: &random)
            switch Int.random(in: 0..<6, using: &random) {
            case 0: array.remove(at: index)
            case 1: array.insert(array[index], at: Int.random(in: 0...array.count, using: &random))
            default: array[index] = changed(array[index])
            }
            return .array(array)
        case .string(let string) where Int.random(in: 0..<3, using: &random) > 0:
            var bytes = Array(string.utf8)
            change(&bytes, [])
            return .string(String(decoding: bytes, as: UTF8.self))
        default:
            return scalar()
        }
    }

    private mutating func scalar() -> JSONValue {
        let values: [JSONValue] = [
            .null, true, false, 0, 1, -1, .int(.max), .int(.min), .double(.infinity), 0.5, "", "a",
            "ab",
            [], [:], [[]], 4_294_967_296, 16_777_215, "\u{0}", ["type": "Sequence"], .double(.nan),
            -1e300,
        ]
        return values.randomElement(using: &random) ?? .null
    }
}
