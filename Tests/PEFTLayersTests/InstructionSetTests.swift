import PEFTLayers
import Testing

@Suite struct InstructionSetTests {
    private func choice(_ name: String) throws(InstructionSetError) -> InstructionSet? {
        try InstructionSet.chosen(in: ["PEFT_INSTRUCTION_SET": name])
    }

    @Test(arguments: InstructionSet.allCases.filter(\.isSupported))
    func aSupportedNameIsTheChoice(_ set: InstructionSet) throws {
        #expect(try choice(set.name) == set)
    }

    @Test func namesAreThoseOfTheDocumentation() {
        #expect(
            InstructionSet.allCases.map(\.name) == ["portable", "avx2", "avx512", "avx512bf16"])
    }

    @Test func nothingAndAnEmptyValueAreNoChoice() throws {
        #expect(try InstructionSet.chosen(in: [:]) == nil)
        #expect(try choice("") == nil)
    }

    @Test func anUnknownNameIsRefused() throws {
        let error = try #require(throws: InstructionSetError.self) { try choice("AVX2") }
        #expect(error == .unknown(name: "AVX2"))
        let supported = InstructionSet.allCases.filter(\.isSupported).map(\.name)
        #expect(
            error.description
                == "PEFT_INSTRUCTION_SET: expected one of \(supported.joined(separator: ", ")), "
                + "found 'AVX2'; choose one of these, or unset PEFT_INSTRUCTION_SET for the fastest"
        )
    }

    /// On a machine that lacks none, the emulator's test has the case (InstructionSetProcessTests).
    @Test func aSetThatTheProcessorLacksIsRefused() throws {
        for set in InstructionSet.allCases where !set.isSupported {
            #expect(throws: InstructionSetError.unsupported(set)) { try choice(set.name) }
        }
    }
}
