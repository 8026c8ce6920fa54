/// The tokens of one text.
public struct Encoding: Sendable, Equatable {
    /// The token ids.
    public var ids: [Int]

    /// For each token the UTF-8 byte range that it covers in the original text.
    ///
    /// They are the offsets of Hugging Face `tokenizers`, in bytes instead of characters: a token
    /// that holds only some bytes of a character covers the whole character, so neighbours may
    /// overlap; tokens that the post-processor inserts have the empty range `0..<0`.
    public var offsets: [Range<Int>]

    /// Makes an encoding of as many offsets as ids.
    public init(ids: [Int] = [], offsets: [Range<Int>] = []) {
        precondition(ids.count == offsets.count, "one offset range for each id")
        self.ids = ids
        self.offsets = offsets
    }
}
