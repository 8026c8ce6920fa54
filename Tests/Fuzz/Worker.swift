import Foundation
import PEFTData
import PEFTTokenizers

/// The process that meets the inputs: it dies where the reader crashes, hangs or asks for too much.
enum Worker {
    /// No input may take more time of a processor.
    static let secondsPerInput = 10
    /// No input may take more memory, in bytes.
    static let maximumMemory = 1 << 31

    /// Reads changed samples until the time is over; each lies in `scratch` while it is read.
    static func fuzz(
        _ reader: FuzzReader, seed: UInt64, first: UInt64, until: Date, scratch: URL
    ) throws {
        let samples = try reader.samples.map {
            try FuzzFiles.load(FuzzFiles.fixtures.appending(path: $0))
        }
        let suffix = reader.samples.first.map { URL(filePath: $0).pathExtension } ?? ""
        let input = scratch.appending(path: suffix.isEmpty ? "input" : "input.\(suffix)")
        let progress = scratch.appending(path: "index")
        // What a reader loads once, such as libraries, is not the inputs' memory.
        try FuzzFiles.write(samples.first ?? [:], to: input)
        try read(reader, at: input)
        limitMemory()
        var index = first
        while Date() < until {
            var mutation = Mutation(
                random: FuzzRandom(seed: seed, index: index), words: reader.words)
            let files = mutation.changed(samples)
            try FuzzFiles.write(files, to: input)
            try Data(String(index).utf8).write(to: progress)
            try read(reader, at: input)
            index += 1
        }
        try Data("\(index) done".utf8).write(to: progress)
    }

    /// Reads one kept input.
    static func replay(_ reader: FuzzReader, _ input: URL) throws {
        limitMemory()
        try read(reader, at: input)
    }

    private static func read(_ reader: FuzzReader, at input: URL) throws {
        limitTime(secondsPerInput)
        defer { limitTime(0) }
        do {
            try reader.read(input)
        } catch  where isTyped(error) {
            return
        }
    }

    /// Whether an error is one of the project's, not one that a library threw and nobody caught.
    private static func isTyped(_ error: any Error) -> Bool {
        let module = String(reflecting: type(of: error)).prefix { $0 != "." }
        return module.hasPrefix("PEFT") || module == "Torch"
    }

    /// Lets SIGPROF end the process after so many seconds of computing; 0 takes that back.
    private static func limitTime(_ seconds: Int) {
        var timer = itimerval()
        timer.it_value.tv_sec = seconds
        setitimer(__itimer_which_t(ITIMER_PROF.rawValue), &timer, nil)
    }

    /// Lets allocations fail beyond what the process has now and the limit.
    private static func limitMemory() {
        let pages =
            (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))
            .flatMap { $0.split(separator: " ").first }.flatMap { Int($0) } ?? 0
        let bytes = rlim_t(pages * 4096 + maximumMemory)
        var limit = rlimit(rlim_cur: bytes, rlim_max: bytes)
        setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    }
}
