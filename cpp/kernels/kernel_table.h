// The inner loops of one instruction set, behind one struct of function pointers, with the contract of each.
//
// Letters: m, n, k index the rows and columns of a product and the dimension summed over.
//
// One layout serves every matrix, be it a batch of inputs, weights, activations or gradients: the *panel
// matrix*. Its columns are cut into panels of kPanel = 16; a panel stores its rows one after the other, 16 floats
// (one cache line) each. Element (i, j) is at  panel_stride * (j / 16) + 16 * i + j % 16.  Panels start on a cache
// line. panel_stride(rows) sees to it that a row and its neighbours lie at other lines of a page in the next panels.
// Columns beyond the last one ("padding") may be read as vector lanes but never enter the sum of another element;
// padding of weights, moments and deltas is zero.
//
// All kernels: pointers to float are 64-byte aligned and do not alias unless said otherwise; an empty sum is 0;
// no kernel allocates, throws or keeps state. Each output element is one chain of multiply-adds over the summed
// dimension in rising order, whatever the tile it falls into, so results do not depend on how work is divided; on
// sets with fused multiply-add (all but baseline) the bits are the same on every set. But for one: x86 finds whether a
// result is denormal after rounding it, Arm before, so what rounds up to 2^-126 is that on the one and 0 on the other.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmlp {

inline constexpr std::size_t kPanel = 16;

// Always inlined: a copy compiled for one instruction set must not serve another.
[[gnu::always_inline]] constexpr std::size_t n_panels(std::size_t columns) { return (columns + kPanel - 1) / kPanel; }
// Whether the upper half of the last panel is padding, which some sets can leave out.
[[gnu::always_inline]] constexpr bool ends_in_half(std::size_t columns) {
    return columns % kPanel > 0 && columns % kPanel <= kPanel / 2;
}

// A load waits for an earlier store to the same place of another page as if both had one address ("4-KByte aliasing",
// Intel 64 Optimization Reference Manual), and such lines share a set of the L1 cache. So equal rows of any kWidestTile
// panels lie at least kLinesApart of a page's 64 lines apart (8 would cost a panel up to 45 lines, not 13; docs/
// performance.md), and strides are odd, so that 64 panels begin at 64 different lines.
inline constexpr unsigned kWidestTile = 7, kLinesApart = 7;
// Bit s is set if panels s lines apart, modulo 64, lie so.
inline constexpr std::uint64_t kSpreadStrides = [] {
    std::uint64_t strides = 0;
    for (unsigned stride = 1; stride < 64; stride += 2) {
        bool apart = true;
        for (unsigned panel = 1; panel < kWidestTile; ++panel) {
            const unsigned lines = panel * stride % 64;
            apart = apart && lines >= kLinesApart && lines <= 64 - kLinesApart;
        }
        strides |= std::uint64_t{apart} << stride;
    }
    return strides;
}();
// In floats. In lines, the first such stride that holds the rows; matrices of very few rows take the next odd number.
[[gnu::always_inline]] constexpr std::size_t panel_stride(std::size_t rows) {
    if (rows < kLinesApart) return (rows | 1) * kPanel;
    const std::size_t turn = rows % 64;
    const std::uint64_t from_rows = kSpreadStrides >> turn | kSpreadStrides << (-turn & 63);
    return (rows + static_cast<std::size_t>(__builtin_ctzll(from_rows))) * kPanel;
}
static_assert(panel_stride(1) == kPanel);  // the panels of a row lie side by side
static_assert(panel_stride(58) == (58 + 13) * kPanel && panel_stride(64) == 71 * kPanel);
[[gnu::always_inline]] constexpr std::size_t panel_matrix_size(std::size_t rows, std::size_t columns) {
    return n_panels(columns) * panel_stride(rows);
}

// Columns of a left operand that share a list in multiply_transposed_listed and multiply_grouped: neighbouring pixels.
inline constexpr std::size_t kListedColumns = 4;
// What lists must have room for beyond what they will hold, as kernels may write there: words (and places) of a row,
// and rows of a group.
inline constexpr std::size_t kRowSlack = kPanel;
inline constexpr std::size_t kGroupSlack = 4;

enum class Activation { kIdentity, kRelu, kLeakyRelu, kTanh, kSigmoid, kGelu };

// What training makes small: the loss of a sample, a function of the net's outputs and the sample's target.
enum class Loss { kSoftmaxCrossEntropy, kSigmoidCrossEntropy, kSquaredError };

inline constexpr float kLeakySlope = 0.01f;
inline constexpr float kBatchNormEpsilon = 1e-5f;

// Operands of matrix products are rounded to bfloat16 (to nearest, ties to even) where this says so.
enum class Rounding { kNone, kBfloat16 };

// 2^128 - 2^119: numbers of at least this magnitude are rounded to infinity, as bfloat16.
constexpr float kBfloat16Overflow = 0x1.ffp+127f;

// What the 32-bit words of an operand of a matrix product are. Rows, columns and strides of operands count words.
//
//   kFloats         a word is a number.
//   kBfloat16Pairs  a word is two bfloat16 that the product sums over in succession, the first in the lower half:
//                   neighbouring columns of a left operand, neighbouring rows of a right one, and where the left one
//                   is transposed, neighbouring rows of both. The last of an odd number is paired with 0.
enum class Words { kFloats, kBfloat16Pairs };

// c (rows x columns)  =  [c +]  a (rows x depth) times b (depth x columns). Where b's padding is 0, and c's if it is
// added to, c's is 0.
struct Product {
    const float* a;
    std::size_t a_panel_stride;
    const float* b;
    std::size_t b_panel_stride;
    float* c;
    std::size_t c_panel_stride;
    std::size_t rows;
    std::size_t columns;
    std::size_t depth;
    bool accumulate;
};

// The words of a matrix that are not 0, row after row. A place is 16 times the word's column: where in a panel of the
// right operand the line is that it multiplies. Row i ends before word ends[i].
struct ListedRows {
    float* words;
    std::uint32_t* places;
    std::uint32_t* ends;
};

// c (rows x columns) = [c +] a b, a being listed. The padding of b, and of c if it is added to, is 0, and stays so in
// c.
struct ListedProduct {
    ListedRows a;
    const float* b;
    std::size_t b_panel_stride;
    float* c;
    std::size_t c_panel_stride;
    std::size_t rows;
    std::size_t columns;
    bool accumulate;
};

// A row of a group of kListedColumns neighbouring columns, and its place: 16 times its number.
struct ListedWords {
    std::uint32_t place;
    float words[kListedColumns];
};

// For each group the rows in which any of its columns is not 0. A list has room for `capacity` rows, kGroupSlack more
// than it will hold.
struct ListedGroups {
    ListedWords* entries;   // of group g from g * capacity on
    std::uint32_t* counts;  // of each group
    std::size_t capacity;
};

// Words that a listed_depth_block may have.
inline constexpr std::size_t kMostListedDepth = 256;

// Rows of a row-major matrix: row i is row index[i] (i if index is null). Unaligned.
template <class Element>
struct RowsOf {
    const Element* data;
    std::size_t row_stride;
    const std::int64_t* index;
    std::size_t rows;
    std::size_t columns;
    // So many rows after these are fetched on the way by who goes over all columns; who packs takes at most as many.
    std::size_t next = 0;
};
using FloatRows = RowsOf<float>;
using PixelRows = RowsOf<std::uint8_t>;

// c (rows x columns) = [c +] a' b. a is listed: rows of c are its columns from group first_group on, and each of the
// parts, at least one, has the next of its rows. The padding of b, and of c if it is added to, is 0, and stays so in c.
struct ListedTransposedProduct {
    const ListedGroups* parts;
    std::size_t n_parts;
    std::size_t first_group;
    const float* b;
    std::size_t b_panel_stride;
    float* c;
    std::size_t c_panel_stride;
    std::size_t rows;
    std::size_t columns;
    bool accumulate;
};

// Rows first_row to first_row + rows - 1 of c = a b, a being listed by groups of its `depth` columns, these rows alone.
// The padding of b is 0, and becomes so in c.
struct GroupedProduct {
    ListedGroups a;
    const float* b;
    std::size_t b_panel_stride;
    float* c;
    std::size_t c_panel_stride;
    std::size_t first_row;
    std::size_t rows;
    std::size_t columns;
    std::size_t depth;
};

// The matrix products, on operands of one kind of words.
struct Products {
    void (*multiply)(const Product& product);
    // As multiply with a transposed: a is depth x rows. The forward pass uses multiply, gradients of weights this.
    void (*multiply_transposed)(const Product& product);
    // The same results for finite b, up to the sign of zero, without the words of a that are 0.
    void (*multiply_listed)(const ListedProduct& product);
    void (*multiply_transposed_listed)(const ListedTransposedProduct& product);
    // Without the groups of a's words that are all 0; c is overwritten. Null where multiply_listed is faster, or where
    // groups have other words than rows.
    void (*multiply_grouped)(const GroupedProduct& product);
    // Lists rows, from word `first` on; words and places have room for kRowSlack more than they will hold.
    void (*list_rows)(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t columns,
                      std::uint32_t first, ListedRows out);
    // Appends rows, numbered from first_row on, to the lists of their groups; out begins with the group of column 0.
    void (*list_groups)(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t columns,
                        std::size_t first_row, ListedGroups out);
    // The same of one to kPanel rows of pixels, in columns first_column to first_column + columns - 1, of at most
    // kMostListedDepth words, and in all of them. Both null where the set has no faster way than by a matrix of words.
    void (*list_pixel_rows)(const PixelRows& from, std::size_t first_column, std::size_t columns, std::uint32_t first,
                            ListedRows out);
    void (*list_pixel_groups)(const PixelRows& from, std::size_t first_row, ListedGroups out);
    // w is the right operand of a product, of 16 depths at most (fewer if depths says so; missing ones give zeros)
    // and `columns` columns. out is one panel of the right operand whose depths are w's columns: w transposed.
    void (*transpose_panel)(const float* w, std::size_t w_panel_stride, std::size_t depths, std::size_t columns,
                            float* out);
    // sums[0..16 panels) = sum over the rows of a panel matrix of words, in rising order; pairs are of rows.
    void (*sum_rows)(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels,
                     float* sums);
};

// A matrix of numbers as words of bfloat16, once in pairs of neighbouring columns and once in pairs of neighbouring
// rows. Both point at the first element; their strides are those between panels. What is not wanted may be null.
struct PairedMatrix {
    float* by_columns;
    std::size_t by_columns_stride;
    float* by_rows;
    std::size_t by_rows_stride;
};

// One optimiser step on a run of parameters; see adam and sgd below.
struct Update {
    float gradient_scale;  // the gradient is multiplied by this first
    float rate;            // Adam: learning rate / (1 - beta_1^t); SGD: learning rate
    float beta_1;          // SGD: momentum
    float beta_2;
    float one_minus_beta_1;
    float one_minus_beta_2;
    float second_correction;  // 1 / (1 - beta_2^t)
    float epsilon;
    float l2;                 // added to the gradient, times the parameter
    float decoupled_decay;    // Adam: subtracted from the parameter, times itself; excludes l2
    bool nesterov;            // SGD: the step looks ahead
    std::ptrdiff_t prefetch;  // distance from parameters to those that will be updated soon
    bool streams = false;     // past the caches: what products take, operand if there is one
    bool half = false;        // all lines' upper halves are padding: 0 in gradient, parameters and moments, and stay so
};

struct Parameters {
    float* value;
    float* first_moment;   // SGD: velocity
    float* second_moment;  // SGD: unused, may be null
    // Null, or receives the new values as products take them in mixed_bfloat16: rounded to bfloat16, as pairs of rows
    // where the set has products of those, else as floats.
    float* operand;
};

struct BiasActivation {
    float* z;  // rows x panels; the product on entry, the activation on return
    std::size_t panel_stride;
    std::size_t rows;
    std::size_t panels;
    const float* bias;  // 16 per panel
    float scale;        // z becomes f(scale * z + bias)
    Activation activation;
    Rounding rounding;              // of the activation
    float* saved;                   // same shape and stride: receives scale * z + bias, or null
    const float* scales = nullptr;  // 16 per panel, which scale is multiplied by; or null
};

// Each column's numbers, times scale, less their mean and over the square root of their variance plus
// kBatchNormEpsilon. Statistics are 16 per panel.
struct BatchNormalize {
    float* z;  // rows x panels
    std::size_t panel_stride;
    std::size_t rows;  // at least 1
    std::size_t panels;
    float scale;
    float* normalized;  // receives the same as z; same shape and stride
    float* mean;        // these receive the statistics
    float* variance;
    float* unbiased_variance;  // with rows - 1 instead of rows, if there is more than 1
};

// The inverse: from the gradient of scale * normalized + shift that of what was normalized.
struct BatchNormalizeBackward {
    float* delta;             // rows x panels
    const float* normalized;  // same shape and stride
    std::size_t panel_stride;
    std::size_t rows;
    std::size_t panels;
    const float* scale;     // 16 per panel
    const float* variance;  // what BatchNormalize gave
    Rounding rounding;      // of delta on return
    float* d_shift;         // receive d loss / d shift and d loss / d scale
    float* d_scale;
};

struct ActivationBackward {
    float* delta;              // rows x panels; d loss / d activation on entry, d loss / d z on return
    const float* saved;        // the activation; for gelu z itself
    std::size_t panel_stride;  // of both
    std::size_t rows;
    std::size_t panels;
    Activation activation;
    Rounding rounding;  // of delta
};

// The losses of some rows, and what backpropagation begins with.
struct RowLosses {
    float* outputs;  // rows x n_outputs; on return delta = d loss / d output * delta_scale, padding 0
    std::size_t panel_stride;
    std::size_t rows;
    std::size_t n_outputs;
    const std::int64_t* labels;  // softmax_cross_entropy: target of row i: class labels[index[i]] (where another thread
                                 // has made it none, the loss is of no use) ...
    const float* targets;        // ... or, if labels is null, row index[i] of this row-major, unaligned matrix
    const std::int64_t* index;   // null: index[i] = i
    float delta_scale;
    Rounding rounding;               // of delta
    float* losses;                   // one per row, unaligned; not finite if any output of the row is not
    const float* weights = nullptr;  // row i's delta is multiplied by weights[index[i]] besides; null: it is not
    float label_smoothing = 0.0f;    // s, for cross-entropies: a target t stands for (1 - s) t + s / n, where n is
                                     // n_outputs for softmax, and 2 for sigmoid
    std::uint8_t* right = nullptr;   // softmax_cross_entropy: one per row, unaligned: 1 if the first of the largest
                                     // outputs is that of the target, or of the first of the largest targets; or null
};

// Which columns of a matrix a row keeps: dropout, Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov (2014).
// Column j of row i is dropped if a random number of 16 bits is below the threshold: the lower (h = 0) or upper (h = 1)
// half of word w of Philox4x32-10 with the key `seed` and the counter (16 (j / 128) + j % 16, first_row + i, stream,
// purpose), the second of which is taken modulo 2^32; w and h are such that 2 w + h = j % 128 / 16.
struct DropoutMask {
    std::uint64_t seed;
    std::uint32_t purpose;
    std::uint32_t stream;
    std::uint64_t first_row;
    std::uint32_t threshold;  // below 2^16
};

// The columns whose random numbers come from the same 16 counters.
inline constexpr std::size_t kMaskPanels = 8;

struct DroppedUnits {
    DropoutMask mask;
    float* matrix;  // rows x panels, of which the first is number first_panel of the matrix that the mask is for
    std::size_t panel_stride;
    std::size_t rows;
    std::size_t first_panel;
    std::size_t panels;
    float scale;          // what is kept is multiplied by this
    std::uint16_t* kept;  // bit t of element (panel * kept_stride + row) is set if lane t is kept
    std::size_t kept_stride;
    Rounding rounding;  // of the results
    float* saved;       // same shape and stride: receives the matrix as it was, or null
};

// An image plane: rows of n_panels(width) lines each, one after the other. Lanes beyond the width hold anything.
[[gnu::always_inline]] constexpr std::size_t plane_size(std::size_t height, std::size_t width) {
    return height * n_panels(width) * kPanel;
}

// The taps of a symmetric filter, integers g[-radius] to g[radius] with a sum of kTapSum, as pairs: element d + radius
// + kTapMargin - 1 has g[d] in its lower and g[d - 1] in its upper 16 bits, for d from -radius - kTapMargin + 1 to
// radius + kTapMargin. The margin is as wide as the lines that are smoothed at a time.
inline constexpr std::int32_t kTapSum = 32767;
inline constexpr std::size_t kTapMargin = 2 * kPanel;
[[gnu::always_inline]] constexpr std::size_t n_tap_pairs(std::size_t radius) { return 2 * (radius + kTapMargin); }

// Two fields of white noise, 0 outside of the image, convolved along rows and then along columns with one filter, in
// integers: sums along rows are divided by 2^15 and rounded, sums along columns are multiplied by `scale` as floats.
//
// Noise is (2 b - 255) * 128, b a random byte: from -2^15 to 2^15 in 256 equal steps. Its bytes come from Philox4x32-10
// with the key `seed` and the counters (c, stream, purpose), c of 64 bits from first_counter on. A row of the image
// takes n_panels((width + 1) / 2) lines of 32-bit words, and lane t of line 4 g + j of the image has word j of counter
// first_counter + 16 g + t. Word p of a row is for the columns 2 p and 2 p + 1: bytes 0 and 2, the lowest being 0, for
// the field x, bytes 1 and 3 for y, each with the upper bit inverted.
struct RandomFields {
    std::uint64_t seed;
    std::uint32_t purpose;
    std::uint32_t stream;
    std::uint64_t first_counter;
    float scale;
    const float* tap_pairs;  // the bits of these words; unaligned
    std::size_t radius;
    std::size_t height;
    std::size_t width;
    float* x;  // planes
    float* y;
    float* scratch;  // random_fields_scratch_size floats
};

inline constexpr std::size_t kPhiloxWords = 4;

// kRandomNumbers random numbers of 64 bits: word 0 in the lower half and word 1 in the upper of Philox4x32-10 with the
// key `seed` and the counters (c, stream, purpose), c of 64 bits from first_counter on, a multiple of kRandomNumbers.
struct RandomBits {
    std::uint64_t seed;
    std::uint32_t purpose;
    std::uint32_t stream;
    std::uint64_t first_counter;
};
inline constexpr std::size_t kRandomNumbers = 64;

[[gnu::always_inline]] constexpr std::size_t noise_stride(std::size_t width) {
    return n_panels((width + 1) / 2) * kPanel;
}
[[gnu::always_inline]] constexpr std::size_t random_fields_scratch_size(std::size_t height, std::size_t width) {
    const std::size_t row_pairs = (height + 1) / 2;
    return 4 * row_pairs * noise_stride(width) + 2 * row_pairs * n_panels(width) * kPanel;
}

// The largest sides of an image: indices and coordinates are exact float32 numbers.
inline constexpr std::size_t kMaxImageSide = 2048;

// Pixel (row, column) of out is the image at x = column_x * column + row_x * row + offset_x + displacement_x(row,
// column) pixels from the left, and at the like y from the top: bilinear between the centres of pixels, 0 outside of
// the image, rounded to nearest. Sides are 1 to kMaxImageSide.
struct Resampling {
    const std::uint8_t* image;  // row-major, unaligned
    std::size_t height;
    std::size_t width;
    float column_x, row_x, offset_x;
    float column_y, row_y, offset_y;
    const float* displacement_x;  // planes, or both null
    const float* displacement_y;
    std::uint8_t* out;  // as image; does not alias it
    float* scratch;     // resampling_scratch_size floats
};

// The image with a border, in bytes.
[[gnu::always_inline]] constexpr std::size_t bordered_stride(std::size_t width) { return width + 3; }
[[gnu::always_inline]] constexpr std::size_t bordered_size(std::size_t height, std::size_t width) {
    return (height + 3) * bordered_stride(width);
}
[[gnu::always_inline]] constexpr std::size_t resampling_scratch_size(std::size_t height, std::size_t width) {
    return 3 * plane_size(height, width) + n_panels(bordered_size(height, width) / sizeof(float) + 1) * kPanel;
}

struct KernelTable {
    const char* name;

    Products float_products;
    Products pair_products;  // all null where the set has no dot products of bfloat16

    // Products with a greater depth are made in blocks of at most this many words, so that a block of the right
    // operand, a tile wide, stays in the L1 cache while all rows go by, or where that is no gain in the L2 cache; those
    // with a listed left operand, whose loops run over what is not 0 alone, in blocks of a size of their own.
    std::size_t depth_block;
    std::size_t depth_block_on_amd;  // which takes its place there
    std::size_t listed_depth_block;
    // Of inputs, at most, in a task that makes the gradient of weights, and in one of a small batch (division.h of
    // core).
    std::size_t gradient_input_panels;
    std::size_t small_batch_input_panels;
    // Rows of a batch that one task should carry at most, of which a block stays in the L2 cache; and the share of that
    // which it may fill: row_block_for.
    std::size_t row_block;
    double row_block_share;
    // Nanoseconds: where a line takes as long from one core's cache to another's, threads hand data over through
    // memory. Infinity where that does not pay at any distance: see far_from_here.
    double far_from;

    // Sets the floating-point state of this thread: rounding to nearest, denormals flushed. Returns the old state.
    std::uint64_t (*enter)();
    void (*leave)(std::uint64_t state);

    // These rows become rows of the panel matrix out; padding is zero. The uint8 kernels convert values, 0 to 255.
    // Those of floats return whether all elements are finite, also when rounded.
    void (*pack_uint8)(const PixelRows& from, float* out, std::size_t out_panel_stride);
    bool (*pack_float)(const FloatRows& from, Rounding rounding, float* out, std::size_t out_panel_stride);
    // The same into pairs. Null where the set has no products of pairs.
    void (*pack_uint8_pairs)(const PixelRows& from, const PairedMatrix& out);
    bool (*pack_float_pairs)(const FloatRows& from, const PairedMatrix& out);
    // Pairs of a panel matrix. Null where the set has no products of pairs.
    void (*pair)(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels,
                 const PairedMatrix& out);
    // Elements of this row that are not 0 (together: 1), or groups of columns that have any (kListedColumns).
    std::size_t (*count_nonzeros_uint8)(const std::uint8_t* row, std::size_t columns, std::size_t together);
    std::size_t (*count_nonzeros_float)(const float* row, std::size_t columns, std::size_t together);
    // The reverse: panel matrix to row-major, unaligned.
    void (*unpack)(const float* panels, std::size_t in_panel_stride, std::size_t rows, std::size_t columns, float* out,
                   std::size_t row_stride);

    void (*bias_activation)(const BiasActivation& args);
    void (*activation_backward)(const ActivationBackward& args);
    void (*batch_normalize)(const BatchNormalize& args);
    void (*batch_normalize_backward)(const BatchNormalizeBackward& args);
    // With statistics that are known: folded_scale * z + folded_shift is scale * normalized z + shift.
    void (*fold_batch_norm)(const float* shift, const float* scale, const float* mean, const float* variance,
                            std::size_t panels, float* folded_shift, float* folded_scale);
    // Dropped units become 0. This writes `kept` ...
    void (*drop_units)(const DroppedUnits& args);
    // ... and this reads it, and neither rounds nor saves.
    void (*drop_deltas)(const DroppedUnits& args);
    // Row-major, unaligned rows of inputs, of which dropped ones become 0; out has room for 15 elements more. A number
    // that is not finite becomes or stays one.
    void (*drop_uint8)(const DropoutMask& mask, const std::uint8_t* data, const std::int64_t* index, std::size_t rows,
                       std::size_t columns, std::uint8_t* out);
    void (*drop_float)(const DropoutMask& mask, const float* data, const std::int64_t* index, std::size_t rows,
                       std::size_t columns, float* out);
    // Loss of a row, with outputs z and targets t: -sum t log(softmax(z)).
    void (*softmax_cross_entropy)(const RowLosses& args);
    // -mean (t log(sigmoid(z)) + (1 - t) log(1 - sigmoid(z))), over the outputs.
    void (*sigmoid_cross_entropy)(const RowLosses& args);
    // mean (z - t)^2, over the outputs.
    void (*squared_error)(const RowLosses& args);
    // In place on rows x n_classes panels; padding becomes 0.
    void (*softmax)(float* logits, std::size_t logits_panel_stride, std::size_t rows, std::size_t n_classes);
    // The same for outputs that are independent of one another.
    void (*sigmoid)(float* outputs, std::size_t outputs_panel_stride, std::size_t rows, std::size_t n_outputs);

    // Kingma & Ba (2015), Algorithm 1: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
    // w -= rate m / (sqrt(second_correction v) + epsilon), where g is the gradient + l2 w; and w -= decoupled_decay w
    // with the w before. count is a multiple of 16. Returns whether all w are finite, also when rounded for operand,
    // and the square roots too.
    bool (*adam)(const Update& update, const float* gradient, const Parameters& parameters, std::size_t count);
    // With g = gradient + l2 w: v = momentum v + g; w -= rate v, or, with nesterov, w -= rate (g + momentum v). Returns
    // whether all w are finite.
    bool (*sgd)(const Update& update, const float* gradient, const Parameters& parameters, std::size_t count);
    // averages += part (value - averages), or averages = value if part is 1. count is a multiple of 16. Returns whether
    // all averages are finite.
    bool (*average)(float* averages, const float* value, float part, std::size_t count);
    // sums[0..16) += the squares of each column of one panel, row after row.
    void (*add_squares)(const float* lines, std::size_t n_lines, double* sums);
    // Column j of one panel times factors[j]; factors are aligned.
    void (*scale_columns)(float* lines, std::size_t n_lines, const float* factors);
    // As adam and sgd write `operand`, for one panel of weights: rows lines.
    void (*write_operand)(const float* value, float* operand, std::size_t rows);

    void (*random_bits)(const RandomBits& args, std::uint64_t (&out)[kRandomNumbers]);
    void (*random_fields)(const RandomFields& args);
    void (*resample)(const Resampling& args);
};

}  // namespace fastmlp
