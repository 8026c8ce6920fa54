/// The cyclic redundancy check with Castagnoli's polynomial, as TensorFlow's record files have it.
///
/// - Source: RFC 3720, appendix B.4; tensorflow `core/lib/hash/crc32c.h:Mask`.
enum CRC32C {
    /// The polynomial, bits reversed.
    private static let polynomial: UInt32 = 0x82F6_3B78
    /// What is added to a rotated check.
    private static let maskDelta: UInt32 = 0xA282_EAD8

    private static let table: [UInt32] = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { value, _ in
            value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1
        }
    }

    /// The check of some bytes.
    static func of(_ bytes: [UInt8]) -> UInt32 {
        ~bytes.reduce(~UInt32(0)) { check, byte in
            table[Int((check ^ UInt32(byte)) & 0xFF)] ^ check >> 8
        }
    }

    /// The check as it is stored beside the bytes: so that bytes that hold checks have no check that is one of them.
    static func masked(_ bytes: [UInt8]) -> UInt32 {
        let check = of(bytes)
        return (check >> 15 | check << 17) &+ maskDelta
    }
}
