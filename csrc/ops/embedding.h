// Rows of a table, plain or packed, by id.
#pragma once

#include "../packed_q16.h"

namespace kvik::KVIK_ISA {

// What is read of a table: its row in its own dtype, in place where it is plain.
template <class S>
KVIK_INLINE const S* table_row(const S* table, bool packed, int64_t size, int64_t id, S* buffer) {
    if (!packed) return table + id * size;
    gather_row(buffer, table, size, id);
    return buffer;
}

// The value is rounded to the output's dtype, then multiplied by the scale rounded likewise, then rounded.
template <class T, class S>
static void embed_rows(T* out, const S* table, bool packed, int64_t size, const int32_t* ids, int64_t count,
                       float scale) {
    const F32 factor = round_to<T>(set1(scale));
    parallel_for(count, min_tasks(size * sizeof(S)), [=](int64_t begin, int64_t end, int) {
        S* buffer = packed ? static_cast<S*>(thread_scratch(static_cast<size_t>(size) * sizeof(S))) : nullptr;
        for (int64_t i = begin; i < end; ++i) {
            const S* row = table_row(table, packed, size, ids[i], buffer);
            each_vector(size, [&](int64_t j, int64_t n) {
                store_part(out + i * size + j, round_to<T>(load_part(row + j, n)) * factor, n);
            });
        }
    });
}

// The same for rows of blocks, which are dequantised to fp32 first.
template <class T, class Q>
static void embed_blocks(T* out, const uint8_t* table, int64_t size, const int32_t* ids, int64_t count, float scale) {
    const F32 factor = round_to<T>(set1(scale));
    const int64_t panel_bytes = Q::panel_bytes(size / kGroup);
    parallel_for(count, min_tasks(size), [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const uint8_t* panel = table + ids[i] / kPanelRows * panel_bytes;
            for (int64_t from = 0; from < size; from += Q::Gguf::kSize) {
                uint8_t block[Q::Gguf::kBytes];
                float values[Q::Gguf::kSize];
                Q::get(block, panel, from / Q::Gguf::kSize, static_cast<int>(ids[i] % kPanelRows));
                Q::Gguf::block(values, block);
                each_vector(Q::Gguf::kSize, [&](int64_t j, int64_t n) {
                    store_part(out + i * size + from + j, round_to<T>(load_part(values + j, n)) * factor, n);
                });
            }
        }
    });
}

template <class T>
static void embed_q16(T* out, const uint8_t* table, int64_t size, const int32_t* ids, int64_t count, float scale) {
    const F32 factor = round_to<T>(set1(scale));
    parallel_for(count, min_tasks(size * 2), [=](int64_t begin, int64_t end, int) {
        float* row = static_cast<float*>(thread_scratch(static_cast<size_t>(size) * sizeof(float)));
        for (int64_t i = begin; i < end; ++i) {
            gather_q16_row(row, table, size, ids[i]);
            each_vector(size, [&](int64_t j, int64_t n) {
                store_part(out + i * size + j, round_to<T>(load_part(row + j, n)) * factor, n);
            });
        }
    });
}

template <class T>
static void copy_rows(T* out, const T* table, bool packed, int64_t size, const int32_t* ids, int64_t count) {
    parallel_for(count, min_tasks(size * sizeof(T)), [=](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            if (packed) {
                gather_row(out + i * size, table, size, ids[i]);
            } else {
                std::memcpy(out + i * size, table + ids[i] * size, static_cast<size_t>(size) * sizeof(T));
            }
        }
    });
}

// Returns -1, or the index of the first id outside [0, num_rows); then nothing is written.
static int64_t embedding(void* out, const void* table, bool packed, int64_t num_rows, int64_t size, const int32_t* ids,
                         int64_t count, float scale, int out_dtype, int table_format) {
    for (int64_t i = 0; i < count; ++i)
        if (ids[i] < 0 || ids[i] >= num_rows) return i;
    with_type(out_dtype, [&]<class T>() {
        T* to = static_cast<T*>(out);
        const uint8_t* blocks = static_cast<const uint8_t*>(table);
        const auto from_blocks = [&]<class Q>() { embed_blocks<T, Q>(to, blocks, size, ids, count, scale); };
        if (with_packed_blocks(table_format, from_blocks)) return;
        if (table_format == kFormatQ16) return embed_q16(to, blocks, size, ids, count, scale);
        const int table_dtype = table_format == kFormatF32 ? kF32 : table_format == kFormatBf16 ? kBf16 : kF16;
        if (scale == 1.0f && out_dtype == table_dtype)
            return copy_rows(to, static_cast<const T*>(table), packed, size, ids, count);
        with_source_type(table_dtype, [&]<class S>() {
            embed_rows(to, static_cast<const S*>(table), packed, size, ids, count, scale);
        });
    });
    return -1;
}

}  // namespace kvik::KVIK_ISA
