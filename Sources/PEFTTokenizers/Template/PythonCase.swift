extension String {
    /// `str.lower`, a final sigma included.
    var pythonLowercased: String {
        if utf8.allSatisfy({ $0 < 0x80 }) { return lowercased() }
        let scalars = Array(unicodeScalars)
        var result = ""
        for (index, scalar) in scalars.enumerated() {
            if scalar == "\u{3A3}" {
                result += Self.isFinal(index, scalars) ? "\u{3C2}" : "\u{3C3}"
            } else {
                result += scalar.properties.lowercaseMapping
            }
        }
        return result
    }

    /// Whether the sigma at `index` ends a word.
    private static func isFinal(_ index: Int, _ scalars: [Unicode.Scalar]) -> Bool {
        let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
        return before?.properties.isCased == true && after?.properties.isCased != true
    }

    /// `str.upper`.
    var pythonUppercased: String {
        unicodeScalars.reduce(into: "") { $0 += $1.properties.uppercaseMapping }
    }

    /// `str.capitalize`.
    var pythonCapitalized: String {
        guard let first = unicodeScalars.first else { return self }
        let lower = pythonLowercased
        return first.properties.titlecaseMapping
            + String(
                lower.unicodeScalars.dropFirst(
                    first.properties.lowercaseMapping.unicodeScalars.count))
    }

    /// `str.title`: a capital at the start of each run of letters.
    var pythonTitlecased: String {
        let scalars = Array(unicodeScalars)
        var result = ""
        var isAfterCased = false
        for (index, scalar) in scalars.enumerated() {
            if !isAfterCased {
                result += scalar.properties.titlecaseMapping
            } else if scalar == "\u{3A3}" {
                result += Self.isFinal(index, scalars) ? "\u{3C2}" : "\u{3C3}"
            } else {
                result += scalar.properties.lowercaseMapping
            }
            isAfterCased = scalar.properties.isCased
        }
        return result
    }

    /// `str.swapcase`.
    var pythonCaseSwapped: String {
        unicodeScalars.reduce(into: "") { result, scalar in
            let properties = scalar.properties
            result +=
                properties.isUppercase
                ? properties.lowercaseMapping
                : properties.isLowercase ? properties.uppercaseMapping : String(scalar)
        }
    }

    /// `str.isupper` for capitals, `str.islower` for small letters: all cased letters are so.
    func isPythonCased(upper: Bool) -> Bool {
        var hasCased = false
        for scalar in unicodeScalars {
            let properties = scalar.properties
            let isTitle = properties.generalCategory == .titlecaseLetter
            if isTitle || (upper ? properties.isLowercase : properties.isUppercase) { return false }
            if upper ? properties.isUppercase : properties.isLowercase { hasCased = true }
        }
        return hasCased
    }

    /// `str.istitle`: capitals only at starts of words, small letters only inside.
    var isPythonTitle: Bool {
        var hasCased = false
        var isAfterCased = false
        for scalar in unicodeScalars {
            let properties = scalar.properties
            if properties.isUppercase || properties.generalCategory == .titlecaseLetter {
                if isAfterCased { return false }
                isAfterCased = true
                hasCased = true
            } else if properties.isLowercase {
                if !isAfterCased { return false }
                hasCased = true
            } else {
                isAfterCased = false
            }
        }
        return hasCased
    }

    /// Jinja2's `title` filter: words start after spaces, hyphens and opening brackets.
    var jinjaTitlecased: String {
        let starts: Set<Unicode.Scalar> = ["-", "(", "{", "[", "<"]
        var result = ""
        var word = String.UnicodeScalarView()
        func finish() {
            guard let first = word.first else { return }
            result += String(first).pythonUppercased + String(word.dropFirst()).pythonLowercased
            word = String.UnicodeScalarView()
        }
        for scalar in unicodeScalars {
            if scalar.isPythonSpace || starts.contains(scalar) {
                finish()
                result.unicodeScalars.append(scalar)
            } else {
                word.append(scalar)
            }
        }
        finish()
        return result
    }

    /// The number of runs of letters, digits and underscores.
    var numPythonWords: Int {
        var count = 0
        var isInside = false
        for scalar in unicodeScalars {
            let isPart = scalar.isWordPart
            if isPart, !isInside { count += 1 }
            isInside = isPart
        }
        return count
    }
}
