// The native core in one page, and the list of its ops.
//
//   table.h          this list: one line per op
//   ops/<op>.h       the kernel, written once as a template over the vector wrapper of simd.h
//   chain.h          the inner step of the matrix products
//   packed.h, packed_blocks.h, packed_q16.h, kv_layout.h   how weights lie in memory, and the cache
//   expanded_blocks.h   and what many rows read of the quantised ones
//   isa_unit.cpp     includes every ops/*.h; compiled once per instruction set, it fills one Table
//   dispatch.cpp     asks the processor what it can do and picks a Table (kernels/runtime.py may lower it)
//   thread_pool.*    persistent workers; parallel.h is the kernels' door to them
//   upcoming.h       what they fetch while they wait
//   memory.*         big zeroed blocks on huge pages
//   tape.*           a forward pass's calls, recorded once, replayed with other counts
//   module.cpp       the Python module kvik._native: each op under its own name, without the GIL
//
// To add an op `foo`:
//   1. csrc/ops/foo.h: `namespace kvik::KVIK_ISA { static void foo(...) {...} }`; see ops/rms_norm.h. Everything in it
//      is `static`, and no function of the standard library that the compiler might leave out of line is called:
//      the linker keeps one copy of such a function, which may be the one with AVX-512 inside.
//   2. one line below, and one #include in isa_unit.cpp. The binding is made from the line: pointers become
//      addresses (tensor.data_ptr(), 0 for a null pointer), the rest is passed as it is. What differs from step to
//      step is of a count's type below: to the kernel it is an int64_t, and a tape knows it by its type. A result,
//      where there is one, is -1 or the index of the first bad row.
//   3. kernels/foo/{__init__,reference,cpu}.py and tests/unit/kernels/test_foo.py.
//
// Shapes, dtypes and bounds are the Python side's duty; nothing is checked here. `dtype` is a code of dtype.h,
// `format` one of formats.h.
#pragma once

#include <cstdint>
#include <type_traits>

namespace kvik {

struct NumRows {  // rows of the activations: the tokens of a step, or those of them whose logits are wanted
    int64_t value;
};
struct NumRequests {
    int64_t value;
};
struct BlockTableWidth {  // columns of the step's block tables
    int64_t value;
};

// clang-format off
#define KVIK_OPS(OP)                                                                                                   \
    OP(rms_norm, void(void* out, const void* x, const void* weight, NumRows rows, int64_t size, float eps,             \
                      bool unit_offset, int dtype))                                                                    \
    OP(add_rms_norm, void(void* out, const void* x, void* residual, const void* weight, NumRows rows, int64_t size,    \
                          float eps, bool unit_offset, int dtype))                                                     \
    OP(linear, void(float* out, int64_t out_stride, const float* x, const void* weight, const float* bias, NumRows m,  \
                    int64_t n, int64_t k, int format))                                                                 \
    OP(lora, void(float* out, int64_t out_stride, const float* x, float* shrunk, const void* a, const void* b,         \
                  const int32_t* slots, const int32_t* ranks, const float* scales, const int32_t* columns, NumRows m,  \
                  int64_t parts, int64_t k, int64_t max_rank, int dtype))                                              \
    OP(pack_rows, void(void* packed, int64_t k, int64_t first_row, const void* rows, int64_t num_rows,                 \
                       int format, int rows_dtype))                                                                    \
    OP(pack_blocks, void(void* packed, int64_t k, int64_t first_row, const uint8_t* rows, int64_t num_rows,            \
                         int format))                                                                                  \
    OP(embedding, int64_t(void* out, const void* table, bool packed, int64_t num_rows, int64_t size,                   \
                          const int32_t* ids, NumRows count, float scale, int out_dtype, int table_format))            \
    OP(quantize, void(uint8_t* out, const float* values, int format, int64_t num_blocks))                              \
    OP(gated_activation, void(void* out, const void* x, NumRows rows, int64_t size, int kind, int dtype))              \
    OP(dequantize, void(void* out, const uint8_t* data, int format, int64_t num_blocks, int dtype))                    \
    OP(rope_and_cache, void(float* q_out, const float* qkv, const float* cos_sin, const int32_t* positions,            \
                            const int32_t* slots, void* k_cache, void* v_cache, const float* q_norm,                   \
                            const float* k_norm, NumRows num_tokens, int64_t num_heads, int64_t num_kv_heads,          \
                            int64_t head_dim, int64_t block_size, float eps, bool unit_offset, int cache_dtype))       \
    OP(paged_attention, void(float* out, const float* q, const void* k_cache, const void* v_cache,                     \
                             const int32_t* block_tables, const int32_t* query_start_loc, const int32_t* seq_lens,     \
                             NumRequests num_requests, BlockTableWidth max_blocks, int64_t num_kv_heads,               \
                             int64_t group, int64_t head_dim, int64_t block_size, float scale, int64_t window,         \
                             int cache_dtype))                                                                         \
    OP(batch_rows, void(const int32_t* requests, int64_t num_requests, int64_t width, int64_t block_size,              \
                        const int32_t* token_table, int64_t token_stride, const int32_t* block_table,                  \
                        int64_t block_stride, int32_t* token_ids, int32_t* positions, int32_t* slots,                  \
                        int32_t* query_start_loc, int32_t* seq_lens, int32_t* block_tables, int32_t* logits_rows))     \
    OP(sample, void(int64_t* out, const float* logits, int64_t num_rows, int64_t size,                                 \
                          const float* temperature, const int32_t* top_k, const float* top_p, const float* min_p,      \
                          const int64_t* seeds, const int64_t* positions))                                             \
    OP(kept_tokens, void(uint8_t* kept, const float* logits, int64_t num_rows, int64_t size,                           \
                          const float* temperature, const int32_t* top_k, const float* top_p, const float* min_p))     \
    OP(arg_max, void(int64_t* out, const float* logits, int64_t num_rows, int64_t size))                               \
    OP(mask_tokens, void(float* logits, int64_t size, const int32_t* rows, int64_t num_masks, const uint32_t* masks,   \
                         int64_t mask_stride))                                                                         \
    OP(top_logprobs, void(int64_t* ids, float* values, int64_t* ranks, const float* logits, const int64_t* chosen,     \
                          int64_t num_rows, int64_t size, int64_t k, bool normalize))                                  \
    OP(token_logprobs, void(float* values, int64_t* ranks, const float* logits, const int64_t* token_ids,              \
                            int64_t num_rows, int64_t size, int64_t num_ids, bool normalize))
// clang-format on

// How a kernel takes an argument of the list.
template <class T>
using KernelArgument = std::conditional_t<std::is_class_v<T>, int64_t, T>;

template <class Signature>
struct KernelOf;
template <class R, class... A>
struct KernelOf<R(A...)> {
    using Pointer = R (*)(KernelArgument<A>...);
};
template <class Signature>
using Kernel = typename KernelOf<Signature>::Pointer;

struct Table {
    const char* isa;
#define KVIK_OP_FIELD(name, ...) Kernel<__VA_ARGS__> name;
    KVIK_OPS(KVIK_OP_FIELD)
#undef KVIK_OP_FIELD
};

// The table in use: the best one from load on, unless select_isa() says otherwise.
extern const Table* active;

// Names that this machine can run, best first.
const char* const* available_isas();

// Throws std::invalid_argument with the names that would be right.
void select_isa(const char* name);

}  // namespace kvik
