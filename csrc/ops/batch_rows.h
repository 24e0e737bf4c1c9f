// The arrays of a step's batch from the tables of its requests: copies of integers, and nothing to vectorise.
#pragma once

#include <cstdint>

namespace kvik::KVIK_ISA {

// requests [B, 4]: row in the tables, first position, number of tokens, and for how many of its last rows logits are
// wanted. token_table and block_table have `token_stride` and `block_stride` elements a row.
static void batch_rows(const int32_t* requests, int64_t num_requests, int64_t width, int64_t block_size,
                       const int32_t* token_table, int64_t token_stride, const int32_t* block_table,
                       int64_t block_stride, int32_t* token_ids, int32_t* positions, int32_t* slots,
                       int32_t* query_start_loc, int32_t* seq_lens, int32_t* block_tables, int32_t* logits_rows) {
    int32_t row = 0;  // of the batch
    query_start_loc[0] = 0;
    for (int64_t b = 0; b < num_requests; ++b) {
        const int32_t* request = requests + 4 * b;
        const int32_t* tokens = token_table + request[0] * token_stride;
        const int32_t* blocks = block_table + request[0] * block_stride;
        const int32_t end = request[1] + request[2], size = static_cast<int32_t>(block_size);
        for (int32_t position = request[1]; position < end; ++position, ++row) {
            token_ids[row] = tokens[position];
            positions[row] = position;
            slots[row] = blocks[position / size] * size + position % size;
        }
        query_start_loc[b + 1] = row;
        seq_lens[b] = end;
        for (int64_t i = 0; i < width; ++i) block_tables[b * width + i] = blocks[i];
        for (int32_t i = row - request[3]; i < row; ++i) *logits_rows++ = i;
    }
}

}  // namespace kvik::KVIK_ISA
