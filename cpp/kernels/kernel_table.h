// The inner loops of one instruction set, behind one struct of function pointers, with the contract of each.
//
// Letters: m, n, k index the rows and columns of a product and the dimension summed over.
//
// One layout serves every matrix, be it a batch of inputs, weights, activations or gradients: the *panel
// matrix*. Its columns are cut into panels of kPanel = 16; a panel stores its rows one after the other, 16 floats
// (one cache line) each. Element (i, j) is at  panel_stride * (j / 16) + 16 * i + j % 16.  Panels start on a cache
// line. panel_stride(rows) makes the distance between panels an odd number of cache lines, so that equal rows of
// neighbouring panels fall into different cache sets. Columns beyond the last one ("padding") may be read as
// vector lanes but never enter the sum of another element; padding of weights, moments and deltas is zero.
//
// All kernels: pointers to float are 64-byte aligned and do not alias unless said otherwise; an empty sum is 0;
// no kernel allocates, throws or keeps state. Each output element is one chain of multiply-adds over the summed
// dimension in rising order, whatever the tile it falls into, so results do not depend on how work is divided; on
// sets with fused multiply-add (all but baseline) the bits are the same on every set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastmlp {

inline constexpr std::size_t kPanel = 16;

// Always inlined: a copy compiled for one instruction set must not serve another.
[[gnu::always_inline]] constexpr std::size_t n_panels(std::size_t columns) { return (columns + kPanel - 1) / kPanel; }
[[gnu::always_inline]] constexpr std::size_t panel_stride(std::size_t rows) { return (rows | 1) * kPanel; }
[[gnu::always_inline]] constexpr std::size_t panel_matrix_size(std::size_t rows, std::size_t columns) {
    return n_panels(columns) * panel_stride(rows);
}

// Tiles of multiply_transposed_skipping_zeros are kPanel / kSkipLists columns of a: neighbouring pixels.
inline constexpr std::size_t kSkipLists = 4;

enum class Activation { kIdentity, kRelu, kLeakyRelu, kTanh, kSigmoid, kGelu };

// What training makes small: the loss of a sample, a function of the net's outputs and the sample's target.
enum class Loss { kSoftmaxCrossEntropy, kSigmoidCrossEntropy, kSquaredError };

inline constexpr float kLeakySlope = 0.01f;

// Operands of matrix products are rounded to bfloat16 (to nearest, ties to even) where this says so.
enum class Rounding { kNone, kBfloat16 };

// c (rows x 16 panels)  =  [c +]  a (rows x depth) times b (depth x 16 panels).
struct Product {
    const float* a;
    std::size_t a_panel_stride;
    const float* b;
    std::size_t b_panel_stride;
    float* c;
    std::size_t c_panel_stride;
    std::size_t rows;
    std::size_t panels;
    std::size_t depth;
    bool accumulate;
};

// Where one k of a product is found: offsets of its elements in the left and right operand, for products that skip
// the others.
struct NonZero {
    std::uint32_t a;
    std::uint32_t b;
};

// What packing saw.
struct Packed {
    std::size_t nonzeros;  // elements that are not 0
    bool finite;           // all elements are finite
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
    float l2;               // added to the gradient, times the parameter
    float decoupled_decay;  // Adam: subtracted from the parameter, times itself; excludes l2
    bool nesterov;          // SGD: the step looks ahead
};

struct Parameters {
    float* value;
    float* first_moment;   // SGD: velocity
    float* second_moment;  // SGD: unused, may be null
    float* operand;        // receives the new value rounded to bfloat16; null when products use value itself
};

struct BiasActivation {
    float* z;  // rows x panels; the product on entry, the activation on return
    std::size_t panel_stride;
    std::size_t rows;
    std::size_t panels;
    const float* bias;  // 16 per panel
    float scale;        // z becomes f(scale * z + bias)
    Activation activation;
    Rounding rounding;  // of the activation
    float* saved;       // same shape and stride: receives scale * z + bias, or null
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
    const std::int64_t* labels;  // softmax_cross_entropy: target of row i: class labels[index[i]] ...
    const float* targets;        // ... or, if labels is null, row index[i] of this row-major, unaligned matrix
    const std::int64_t* index;   // null: index[i] = i
    float delta_scale;
    Rounding rounding;               // of delta
    float* losses;                   // one per row, unaligned; not finite if any output of the row is not
    const float* weights = nullptr;  // row i's delta is multiplied by weights[index[i]] besides; null: it is not
    float label_smoothing = 0.0f;    // s, for cross-entropies: a target t stands for (1 - s) t + s / n, where n is
                                     // n_outputs for softmax, and 2 for sigmoid
};

struct KernelTable {
    const char* name;

    // Sums run over the whole depth in one call at most this long, so that the operands stay in the L1 cache.
    std::size_t depth_block;
    // Rows of a tile of multiply_skipping_zeros, which go through one list of columns together.
    std::size_t skip_rows;
    // Rows of a batch that one task should carry at most; chosen so that rows x depth_block stay in the L2 cache.
    std::size_t row_block;

    // Sets the floating-point state of this thread: rounding to nearest, denormals flushed. Returns the old state.
    std::uint64_t (*enter)();
    void (*leave)(std::uint64_t state);

    // Row index[i] (i if index is null) of a row-major (. x columns) matrix becomes row i of the panel matrix out;
    // padding is zero. data is unaligned. The uint8 kernel converts values, 0 to 255.
    Packed (*pack_uint8)(const std::uint8_t* data, std::size_t row_stride, const std::int64_t* index, std::size_t rows,
                         std::size_t columns, float* out, std::size_t out_panel_stride);
    Packed (*pack_float)(const float* data, std::size_t row_stride, const std::int64_t* index, std::size_t rows,
                         std::size_t columns, Rounding rounding, float* out, std::size_t out_panel_stride);
    // The reverse: panel matrix to row-major, unaligned.
    void (*unpack)(const float* panels, std::size_t in_panel_stride, std::size_t rows, std::size_t columns, float* out,
                   std::size_t row_stride);
    // out (columns x 16): out[16 * j + i] = element (i, j) of the rows x columns panel matrix w; rows <= 16,
    // missing rows give zeros. out is one panel of the transposed matrix.
    void (*transpose_panel)(const float* w, std::size_t w_panel_stride, std::size_t rows, std::size_t columns,
                            float* out);

    void (*multiply)(const Product& product);
    // As multiply with a transposed: a is depth x rows. The forward pass uses multiply, gradients of weights this.
    void (*multiply_transposed)(const Product& product);
    // The same results for finite b, up to the sign of zero, without the k at which a is 0 in all rows of a tile.
    // a's offsets must fit into 32 bits. scratch holds (depth + 1) elements per tile of skip_rows rows ...
    void (*multiply_skipping_zeros)(const Product& product, NonZero* scratch);
    // ... or (depth + 1) * kSkipLists.
    void (*multiply_transposed_skipping_zeros)(const Product& product, NonZero* scratch);
    // sums[0..16 panels) = sum over the rows of a panel matrix, in rising order.
    void (*sum_rows)(const float* matrix, std::size_t matrix_panel_stride, std::size_t rows, std::size_t panels,
                     float* sums);

    void (*bias_activation)(const BiasActivation& args);
    void (*activation_backward)(const ActivationBackward& args);
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
    // with the w before. count is a multiple of 16. Returns whether all w are finite.
    bool (*adam)(const Update& update, const float* gradient, const Parameters& parameters, std::size_t count);
    // With g = gradient + l2 w: v = momentum v + g; w -= rate v, or, with nesterov, w -= rate (g + momentum v). Returns
    // whether all w are finite.
    bool (*sgd)(const Update& update, const float* gradient, const Parameters& parameters, std::size_t count);
    // operand = value rounded to bfloat16; count is a multiple of 16.
    void (*round_to_bfloat16)(const float* value, float* operand, std::size_t count);
};

}  // namespace fastmlp
