// The linear layer, forward and backward, with dense and 4-bit weights.
#include "check.h"

using namespace check;

namespace {

struct Shape {
    int64_t rows, columns, rank, tokens;
    bool has_bias, has_mask;
};

// How a layer is computed.
struct Arithmetic {
    int32_t isa, type, num_threads;

    bool takes(const Shape &shape) const { return ckernels_linear_is_supported(isa, type, shape.rows, shape.columns); }
    // Whether the weight is decoded to bfloat16 numbers, not to float32.
    bool rounds_weight() const { return isa == CKERNELS_ISA_AVX512_BF16 && type == CKERNELS_BFLOAT16; }
    // Of sums of numbers that are rounded to bfloat16 on the way, or to nothing but float32.
    double tolerance() const { return type == CKERNELS_BFLOAT16 ? 8e-3 : 2e-6; }
};

// A matrix in double, row-major.
struct Matrix {
    int64_t rows, columns;
    std::vector<double> elements;
    Matrix(int64_t rows, int64_t columns) : rows(rows), columns(columns), elements(size_t(rows * columns)) {}
    double &operator()(int64_t row, int64_t column) { return elements[size_t(row * columns + column)]; }
    double operator()(int64_t row, int64_t column) const { return elements[size_t(row * columns + column)]; }
};

template <class Elements> Matrix matrix(const Elements &from, int64_t rows, int64_t columns) {
    Matrix result(rows, columns);
    for (int64_t i = 0; i < rows * columns; i++) result.elements[size_t(i)] = from[i];
    return result;
}

Matrix transposed(const Matrix &matrix) {
    Matrix result(matrix.columns, matrix.rows);
    for (int64_t i = 0; i < matrix.rows; i++) {
        for (int64_t j = 0; j < matrix.columns; j++) result(j, i) = matrix(i, j);
    }
    return result;
}

// scale a b
Matrix product(const Matrix &a, const Matrix &b, double scale = 1) {
    Matrix result(a.rows, b.columns);
    for (int64_t i = 0; i < a.rows; i++) {
        for (int64_t k = 0; k < a.columns; k++) {
            for (int64_t j = 0; j < b.columns; j++) result(i, j) += scale * a(i, k) * b(k, j);
        }
    }
    return result;
}

template <class Found>
void require_matrix(const Found &found, const Matrix &expected, double tolerance, const std::string &what) {
    require_near(
        expected.rows * expected.columns, [&](int64_t i) { return found[i]; },
        [&](int64_t i) { return expected.elements[size_t(i)]; }, tolerance, what);
}

// What goes in, and the layer's results by double loops.
struct Layer {
    Shape shape;
    Arithmetic arithmetic;
    Numbers x, low_x, bias, dy;
    Exact<float> a, b;
    Exact<uint8_t> kept;

    Layer(const Shape &shape, const Arithmetic &arithmetic)
        : shape(shape), arithmetic(arithmetic), x(normal(arithmetic.type, shape.tokens * shape.columns)), low_x(x),
          bias(normal(arithmetic.type, shape.rows)), dy(normal(arithmetic.type, shape.tokens * shape.rows)),
          a(normal_floats(shape.rank * shape.columns)), b(normal_floats(shape.rows * shape.rank)), kept(low_x.size()) {
        for (int64_t i = 0; i < kept.size(); i++) {
            kept[i] = !shape.has_mask || i % 3 != 1;
            if (!kept[i]) low_x.set(i, 0);
        }
    }

    void check(const CKernelsPanels &panels, const Matrix &weight, const std::string &what) const;
};

void Layer::check(const CKernelsPanels &panels, const Matrix &weight, const std::string &what) const {
    const auto [rows, columns, rank, tokens, has_bias, has_mask] = shape;
    const auto [isa, type, num_threads] = arithmetic;
    const double tolerance = arithmetic.tolerance();
    const float scale = 0.5f;
    const CKernelsLowRank term{rank, scale, a.data(), b.data(), has_mask ? kept.data() : nullptr};
    const int64_t padded_rank = ckernels_linear_padded_rank(rank);
    Numbers u(type, tokens * padded_rank), y(type, tokens * rows), dx(type, tokens * columns);
    Exact<double> da(rank * columns), db(rows * rank);
    for (int64_t i = 0; i < da.size(); i++) da[i] = 0;
    for (int64_t i = 0; i < db.size(); i++) db[i] = 0;
    // Three segments, the first of odd length.
    const int64_t first = std::min<int64_t>(tokens, 3), second = (tokens - first) / 2;
    std::vector<int64_t> lengths{first, second, tokens - first - second};
    std::erase(lengths, 0);
    const CKernelsSegments segments{int64_t(lengths.size()), lengths.data()};
    Workspace workspace(ckernels_linear_workspace_bytes(isa, type, rows, columns, rank, tokens, segments.count, num_threads));
    ckernels_linear_forward(
        isa, type, threads(num_threads), &panels, &term, tokens, x.data(), has_mask ? low_x.data() : nullptr,
        has_bias ? bias.data() : nullptr, u.data(), y.data(), workspace.data());
    ckernels_linear_backward(
        isa, type, threads(num_threads), &panels, &term, segments, low_x.data(), u.data(), dy.data(), dx.data(), da.data(), db.data(),
        workspace.data());

    const Matrix mx = matrix(x, tokens, columns), mlow = matrix(low_x, tokens, columns), mdy = matrix(dy, tokens, rows);
    const Matrix ma = matrix(a, rank, columns), mb = matrix(b, rows, rank);
    const Matrix mu = product(mlow, transposed(ma), scale), mv = product(mdy, mb, scale);
    Matrix expected = product(mx, transposed(weight)), gradient = product(mdy, weight);
    const Matrix low = product(mu, transposed(mb)), low_gradient = product(mv, ma);
    for (int64_t i = 0; i < tokens * rows; i++) expected.elements[i] += low.elements[i] + (has_bias ? bias[i % rows] : 0);
    for (int64_t i = 0; i < tokens * columns; i++) gradient.elements[i] += kept[i] * low_gradient.elements[i];
    require_matrix(y, expected, tolerance, what + ": y");
    if (arithmetic.rounds_weight() && tokens <= CKERNELS_PANELS_MOST_TOKENS && !has_mask) {
        Numbers few(CKERNELS_BFLOAT16, tokens * rows);
        Workspace own(ckernels_linear_few_workspace_bytes(&panels, rank, tokens));
        ckernels_linear_forward_few(
            threads(num_threads), &panels, &term, tokens, x.bits16(), has_bias ? bias.bits16() : nullptr, few.bits16(), own.data());
        require_matrix(few, expected, tolerance, what + ": y of few tokens");
    }
    require_matrix(dx, gradient, tolerance, what + ": dx");
    require_matrix(da, product(transposed(mv), mlow), tolerance, what + ": da");
    // Of the u that forward kept: where few products cancel each other, its rounding is more than the tolerance.
    Matrix kept_u(tokens, rank);
    for (int64_t i = 0; i < tokens * rank; i++) kept_u.elements[size_t(i)] = u[i / rank * padded_rank + i % rank];
    require_matrix(kept_u.elements, mu, tolerance, what + ": u");
    require_matrix(db, product(transposed(mdy), kept_u), tolerance, what + ": db");
    bool is_padded = true;
    for (int64_t i = 0; i < u.size(); i++) is_padded = is_padded && (i % padded_rank < rank || u[i] == 0);
    require(is_padded, what + ": u is not zero beyond the rank");
}

void check_dense(const Layer &layer, const std::string &what) {
    const Numbers weight = normal(CKERNELS_BFLOAT16, layer.shape.rows * layer.shape.columns);
    layer.check(
        ckernels_panels_bfloat16(weight.data(), layer.shape.rows, layer.shape.columns),
        matrix(weight, layer.shape.rows, layer.shape.columns), "dense " + what);
}

// Scales that are codes themselves, four to a second scale, or plain ones.
// The weight is the last rows of a storage that begins with some of another weight.
void check_fourbit(
    const Layer &layer, int64_t block_size, bool is_nested, int64_t first_row, const std::string &what) {
    const auto [rows, columns, rank, tokens, has_bias, has_mask] = layer.shape;
    const int64_t num_elements = (first_row + rows) * columns;
    Exact<uint8_t> packed((num_elements + 1) / 2);
    for (int64_t i = 0; i < packed.size(); i++) packed[i] = uint8_t(engine()());
    const int64_t num_blocks = (num_elements + block_size - 1) / block_size;
    Exact<float> absmax = normal_floats(num_blocks), second((num_blocks + 3) / 4, 0.5f), map(256);
    Exact<uint8_t> codes(num_blocks);
    CKernelsScales scales{};
    scales.scales = absmax.data();
    if (is_nested) {
        scales = {second.data(), codes.data(), map.data(), 4, 0.25f};
        for (int64_t i = 0; i < second.size(); i++) second[i] += float(i % 7) / 8;
        for (int64_t i = 0; i < map.size(); i++) map[i] = float(i - 128) / 128;
        for (int64_t block = 0; block < num_blocks; block++) {
            codes[block] = uint8_t(block * 37);
            absmax[block] = map[codes[block]] * second[block / 4] + 0.25f;
        }
    }
    Matrix weight(rows, columns);
    for (int64_t i = 0; i < rows * columns; i++) {
        const int64_t stored = first_row * columns + i;
        const int code = stored % 2 ? packed[stored / 2] & 15 : packed[stored / 2] >> 4;
        const float element = levels[code] * absmax[stored / block_size];
        weight.elements[i] = layer.arithmetic.rounds_weight() ? from_bfloat16(to_bfloat16(element)) : element;
    }
    layer.check(
        ckernels_panels_fourbit(levels, packed.data(), scales, block_size, first_row, rows, columns), weight,
        described(is_nested ? "nested 4-bit block, first row" : "4-bit block, first row", block_size, first_row) + ", " + what);
}

void check_all(const Arithmetic &arithmetic, const Shape &shape) {
    if (!arithmetic.takes(shape)) return;
    const Layer layer(shape, arithmetic);
    const std::string what = described(
        "linear instruction set, type, rows, columns, rank, tokens, threads", arithmetic.isa, arithmetic.type, shape.rows,
        shape.columns, shape.rank, shape.tokens, arithmetic.num_threads);
    check_dense(layer, what);
    for (int64_t block_size : {32, 64}) {
        for (bool is_nested : {false, true}) {
            for (int64_t first_row : {0, 3}) check_fourbit(layer, block_size, is_nested, first_row, what);
        }
    }
}

}  // namespace

void check_linear() {
    const Shape shapes[] = {
        {2, 2, 0, 1, false, false}, {2, 66, 1, 7, true, false}, {66, 34, 5, 65, false, true}, {130, 98, 16, 130, true, true},
        {64, 128, 17, 64, false, false}, {194, 62, 33, 9, true, true}, {62, 258, 0, 300, true, false},
        {70, 192, 5, 3, true, false}, {66, 576, 17, 8, false, false}, {34, 1030, 0, 1, true, false},
        {67, 35, 7, 131, true, true}, {3, 1, 2, 9, true, false}, {65, 129, 80, 127, false, true},
    };
    for (const Shape &shape : shapes) {
        for (int32_t isa : instruction_sets()) {
            for (int32_t type : {CKERNELS_BFLOAT16, CKERNELS_FLOAT32}) {
                for (int32_t num_threads : thread_counts) check_all({isa, type, num_threads}, shape);
            }
        }
    }
}
