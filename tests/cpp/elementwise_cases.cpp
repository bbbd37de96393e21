// Activations, optimiser updates and rounding.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../../cpp/core/floating_point.h"
#include "kernel_cases.h"
#include "matrix.h"

namespace fastmlp::test {
namespace {

constexpr Activation kActivations[] = {Activation::kIdentity, Activation::kRelu,    Activation::kLeakyRelu,
                                       Activation::kTanh,     Activation::kSigmoid, Activation::kGelu};
constexpr const char* kActivationNames[] = {"identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu"};

class ElementwiseCases : KernelCases {
 public:
    using KernelCases::KernelCases;

    void run() {
        activations();
        updates();
        rounding();
    }

 private:
    void activations() {
        for (const Activation activation : kActivations)
            for (const Rounding rounding : {Rounding::kNone, Rounding::kBfloat16})
                for (const std::size_t rows : {0, 1, 5, 16})
                    for (const std::size_t panels : {0, 1, 3}) {
                        forward(activation, rounding, rows, panels, rows % 2 == 1);
                        backward(activation, rounding, rows, panels);
                    }
    }

    void forward(Activation activation, Rounding rounding, std::size_t rows, std::size_t panels, bool save) {
        Item item(set_, "bias_activation_" + name_of(activation) + name_of(rounding) + " " + shape(rows, panels));
        constexpr float scale = 1.0f / 255.0f;
        Matrix z(rows, panels * kPanel), saved(rows, panels * kPanel);
        z.fill([&](std::size_t i, std::size_t j) { return wide_number(i + j) / scale; });
        Floats bias(panels * kPanel);
        for (std::size_t j = 0; j < bias.size(); ++j) bias[j] = j % 3 == 0 ? 0.0f : random_.symmetric();
        const Matrix before = z;
        {
            const FloatingPointScope scope(table_);
            table_.bias_activation({z.data(), z.stride(), rows, panels, bias.data(), scale, activation, rounding,
                                    save ? saved.data() : nullptr});
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < panels * kPanel; ++j) {
                const double product = static_cast<double>(scale) * before.at(i, j);
                const double exact = product + bias[j];
                // The product, where it is rounded on its own, and the sum.
                const double z_error = 2 * kU * (std::fabs(product) + std::fabs(bias[j]));
                if (save) item.expect(saved.at(i, j), {exact, z_error});
                item.expect(z.at(i, j), rounded(value_of(activation, exact, z_error), rounding));
            }
        item.require(z.frame_is_untouched() && saved.frame_is_untouched(), "wrote outside the result");
    }

    void backward(Activation activation, Rounding rounding, std::size_t rows, std::size_t panels) {
        Item item(set_, "activation_backward_" + name_of(activation) + name_of(rounding) + " " + shape(rows, panels));
        Matrix delta(rows, panels * kPanel), saved(rows, panels * kPanel);
        delta.fill_randomly(random_);
        saved.fill([&](std::size_t i, std::size_t j) {
            if (activation == Activation::kTanh) return random_.symmetric();
            if (activation == Activation::kSigmoid) return std::fabs(random_.symmetric());
            return wide_number(i + j);
        });
        const Matrix before = delta;
        {
            const FloatingPointScope scope(table_);
            table_.activation_backward(
                {delta.data(), saved.data(), delta.stride(), rows, panels, activation, rounding});
        }
        for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t j = 0; j < panels * kPanel; ++j) {
                const Expected slope = slope_of(activation, saved.at(i, j));
                const double d = before.at(i, j);
                const Expected exact{d * slope.value,
                                     std::fabs(d) * (slope.tolerance + 2 * kU * std::fabs(slope.value))};
                item.expect(delta.at(i, j), rounded(exact, rounding));
            }
        item.require(delta.frame_is_untouched(), "wrote outside the result");
    }

    // f(z) where z itself is known to within z_error; no slope exceeds 1.13. exp is right to 4 u, and three more
    // operations with it make 8 u; gelu's normal distribution is right to 0.75e-7 beside that.
    static Expected value_of(Activation activation, double z, double z_error) {
        const double slope_error = 1.13 * z_error + 0x1p-126;  // what is denormal may become 0
        const double error_8u = slope_error + 8 * kU;
        switch (activation) {
            case Activation::kIdentity:
                return {z, slope_error};
            case Activation::kRelu:
                return {std::max(z, 0.0), slope_error};
            case Activation::kLeakyRelu:
                return {z < 0 ? kLeakySlope * z : z, slope_error + kU * std::fabs(z)};
            case Activation::kTanh:
                return {std::tanh(z), slope_error + 8 * kU * std::fabs(std::tanh(z))};
            case Activation::kSigmoid:
                return {1 / (1 + std::exp(-z)), error_8u};
            case Activation::kGelu:
                return {z * normal_cumulative(z), slope_error + std::fabs(z) * (0.75e-7 + 8 * kU)};
        }
        return {kNan, 0};
    }

    // As backward defines it: of the activation, for gelu of z.
    static Expected slope_of(Activation activation, double saved) {
        const double density = std::exp(-saved * saved / 2) / std::sqrt(2 * std::acos(-1.0));
        switch (activation) {
            case Activation::kIdentity:
                return {1, 0};
            case Activation::kRelu:
                return {saved > 0 ? 1.0 : 0.0, 0};
            case Activation::kLeakyRelu:
                return {saved > 0 ? 1.0 : static_cast<double>(kLeakySlope), 0};
            case Activation::kTanh:
                return {1 - saved * saved, 2 * kU};
            case Activation::kSigmoid:
                return {saved * (1 - saved), 2 * kU};
            case Activation::kGelu:
                return {normal_cumulative(saved) + saved * density, 0.75e-7 + 16 * kU};
        }
        return {kNan, 0};
    }

    static double normal_cumulative(double z) { return 0.5 * std::erfc(-z / std::sqrt(2.0)); }

    void updates() {
        for (const std::size_t count : {0, 16, 48, 160})
            for (const bool with_operand : {false, true}) {
                Update decaying = update_, decoupled = update_, nesterov = update_, streaming = update_;
                decaying.l2 = 0.01f;
                decoupled.decoupled_decay = 0.01f;
                nesterov.nesterov = true;
                streaming.streams = true;
                Update decaying_nesterov = decaying;
                decaying_nesterov.nesterov = true;
                update("adam", table_.adam, true, update_, count, with_operand);
                update("adam_decaying", table_.adam, true, decaying, count, with_operand);
                update("adam_decoupled", table_.adam, true, decoupled, count, with_operand);
                update("adam_streaming", table_.adam, true, streaming, count, with_operand);
                for (auto [name, half] : {std::pair{"adam_half", update_}, std::pair{"adam_half_decaying", decaying},
                                          std::pair{"adam_half_decoupled", decoupled}}) {
                    half.half = true;
                    update(name, table_.adam, true, half, count, with_operand);
                }
                update("sgd", table_.sgd, false, update_, count, with_operand);
                update("sgd_streaming", table_.sgd, false, streaming, count, with_operand);
                update("sgd_decaying", table_.sgd, false, decaying, count, with_operand);
                update("sgd_nesterov", table_.sgd, false, nesterov, count, with_operand);
                update("sgd_decaying_nesterov", table_.sgd, false, decaying_nesterov, count, with_operand);
            }
        not_finite_update("adam_not_finite", table_.adam);
        not_finite_update("sgd_not_finite", table_.sgd);
    }

    using UpdateKernel = bool (*)(const Update&, const float*, const Parameters&, std::size_t);

    // One bad gradient, wherever it is, is noticed in the parameters.
    void not_finite_update(const std::string& name, UpdateKernel kernel) {
        Item item(set_, name);
        constexpr std::size_t count = 48;
        for (const float bad : {kInfinity, -kInfinity, kNan})
            for (std::size_t place = 0; place < count; ++place) {
                Floats gradient(count, 1.0f), value(count, 1.0f), first(count, 0.0f), second(count, 0.0f);
                gradient[place] = bad;
                const Parameters parameters{value.data(), first.data(), second.data(), nullptr};
                const FloatingPointScope scope(table_);
                item.require(!kernel(update_, gradient.data(), parameters, count),
                             "a parameter that is not finite was missed");
            }
    }

    void update(const std::string& name, UpdateKernel kernel, bool adam, const Update& u, std::size_t count,
                bool with_operand) {
        Item item(set_, name + (with_operand ? "_operand " : " ") + shape(count));
        Floats gradient(count), value(count), first(count), second(count),
            operand(operand_rows(count / kPanel) * kPanel);
        for (std::size_t i = 0; i < count; ++i) {
            gradient[i] = i % 5 == 0 ? 0.0f : 100 * random_.symmetric();
            value[i] = random_.symmetric();
            first[i] = i % 10 == 0 ? 0.0f : random_.symmetric();
            second[i] = i % 10 == 0 ? 0.0f : std::fabs(random_.symmetric());
            if (u.half && i % kPanel >= kPanel / 2) gradient[i] = value[i] = first[i] = second[i] = 0.0f;
        }
        const Floats w0 = value, m0 = first, v0 = second;
        const Parameters parameters{value.data(), first.data(), adam ? second.data() : nullptr,
                                    with_operand ? operand.data() : nullptr};
        {
            const FloatingPointScope scope(table_);
            item.require(kernel(u, gradient.data(), parameters, count), "finite numbers were taken for others");
        }
        for (std::size_t i = 0; i < count; ++i) {
            const double decay = static_cast<double>(u.l2) * w0[i];
            const double g = static_cast<double>(u.gradient_scale) * gradient[i] + decay;
            // The gradient's product with its scale, the decay's with the parameter, and their sum, are rounded; g may
            // be far smaller than either.
            const double g_error = 3 * kU * (std::fabs(g - decay) + std::fabs(decay));
            // Each term carries at most 4 roundings before it is added, and the sum one more.
            double m, m_error, step, step_error;
            if (adam) {
                m = static_cast<double>(u.beta_1) * m0[i] + u.one_minus_beta_1 * g;
                m_error = 5 * kU * (std::fabs(u.beta_1 * m0[i]) + std::fabs(u.one_minus_beta_1 * g)) +
                          u.one_minus_beta_1 * g_error;
                const double v = static_cast<double>(u.beta_2) * v0[i] + u.one_minus_beta_2 * g * g;
                const double v_error = 6 * kU * v + u.one_minus_beta_2 * g_error * (2 * std::fabs(g) + g_error);
                const double root = std::sqrt(u.second_correction * v) + u.epsilon;
                item.expect(second[i], {v, v_error});
                step = u.rate * m / root;
                step_error = u.rate * m_error / root + 8 * kU * std::fabs(step);
                if (v > v_error) step_error += std::fabs(step) * v_error / (v - v_error);
                const double decoupled = static_cast<double>(u.decoupled_decay) * w0[i];
                step += decoupled;
                step_error += 2 * kU * (std::fabs(step) + std::fabs(decoupled));
            } else {
                m = static_cast<double>(u.beta_1) * m0[i] + g;
                m_error = 5 * kU * (std::fabs(u.beta_1 * m0[i]) + std::fabs(g)) + g_error;
                step = u.rate * (u.nesterov ? u.beta_1 * m + g : m);
                const double ahead_error = u.nesterov ? 5 * kU * (std::fabs(m) + std::fabs(g)) + g_error : 0.0;
                step_error = u.rate * (m_error + ahead_error) + 2 * kU * std::fabs(step);
                item.expect_exactly(second[i], v0[i]);
            }
            item.expect(first[i], {m, m_error});
            item.expect(value[i], {w0[i] - step, step_error + kU * (std::fabs(w0[i]) + std::fabs(step))});
            if (with_operand) item.expect_exactly(operand_number(operand, i), bfloat16(value[i]));
        }
    }

    void rounding() {
        Item item(set_, "round_to_bfloat16");
        std::vector<float> values{
            0.0f,          -0.0f,      1.0f,          0x1.01p0f, 0x1.03p0f,
            0x1.010002p0f, -0x1.01p0f, 0x1.fffffep0f, 0x1p-126f, std::numeric_limits<float>::max(),
            kInfinity,     -kInfinity};
        while (values.size() % kPanel != 0) values.push_back(1e3f * random_.symmetric());
        for (int i = 0; i < 1024; ++i) values.push_back(std::ldexp(random_.symmetric(), i % 200 - 100));
        const std::size_t rows = values.size() / kPanel;
        Floats value(values.size()), operand(operand_rows(rows) * kPanel);
        std::copy(values.begin(), values.end(), value.data());
        {
            const FloatingPointScope scope(table_);
            table_.write_operand(value.data(), operand.data(), rows);
        }
        for (std::size_t i = 0; i < values.size(); ++i)
            item.expect_exactly(operand_number(operand, i), bfloat16(values[i]));
    }

    // Lines of an operand for so many rows, and element i of these rows in it.
    std::size_t operand_rows(std::size_t rows) const { return has_pairs() ? (rows + 1) / 2 : rows; }
    float operand_number(const Floats& operand, std::size_t i) const {
        const std::size_t row = i / kPanel, lane = i % kPanel;
        return has_pairs() ? half_of(operand[row / 2 * kPanel + lane], row % 2) : operand[i];
    }

    // Zeros of both signs, moderate numbers, and a few that drive every activation into saturation.
    float wide_number(std::size_t i) {
        constexpr float special[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 50.0f, -50.0f, 200.0f, -200.0f, 1e-4f, -1e-4f};
        return i % 3 == 0 ? special[i / 3 % std::size(special)] : 6 * random_.symmetric();
    }

    static std::string name_of(Activation activation) { return kActivationNames[static_cast<int>(activation)]; }
    using KernelCases::name_of;

    const Update update_{.gradient_scale = 1.0f / 255.0f,
                         .rate = 0.0123f,
                         .beta_1 = 0.9f,
                         .beta_2 = 0.999f,
                         .one_minus_beta_1 = 0.1f,
                         .one_minus_beta_2 = 0.001f,
                         .second_correction = 333.5f,
                         .epsilon = 1e-8f,
                         .l2 = 0.0f,
                         .decoupled_decay = 0.0f,
                         .nesterov = false,
                         .prefetch = 1u << 24};  // far outside the arrays
};

}  // namespace

void check_elementwise(const KernelTable& table) { ElementwiseCases(table).run(); }

}  // namespace fastmlp::test
