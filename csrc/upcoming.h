// What is read after the present region, and the thread that fetches its part of it meanwhile. Knows neither who reads
// nor who waits.
#pragma once

#include <algorithm>
#include <cstdint>

namespace kvik {

// Memory that a region reads in ascending order, each thread its share of the pieces.
struct Stream {
    const uint8_t* data = nullptr;  // null: none
    int64_t num_pieces = 0, piece_bytes = 0;
};

// The beginning of one share of a stream, fetched into the second-level cache little by little. The memory is never
// looked at: an address that is gone by now does no harm.
class ShareFetcher {
public:
    // Begins anew, unless it is at this share already.
    void aim(const Stream& stream, int share, int num_shares) {
        if (stream.data == stream_ && share == share_) return;
        stream_ = stream.data;
        share_ = share;
        const int64_t begin = stream.num_pieces * share / num_shares;
        const int64_t end = stream.num_pieces * (share + 1) / num_shares;
        next_ = stream.data + begin * stream.piece_bytes;
        lines_left_ = std::min((end - begin) * stream.piece_bytes, kMostBytes) / kLineBytes;
    }

    // So few lines that whoever waits does not look away for long.
    void fetch_some() {
        for (int i = 0; i < 8 && lines_left_ > 0; ++i, --lines_left_, next_ += kLineBytes)
            __builtin_prefetch(next_, 0, 2);
    }

private:
    static constexpr int64_t kLineBytes = 64;
    static constexpr int64_t kMostBytes = 64 * 1024;  // a small part of the second-level cache

    const uint8_t *stream_ = nullptr, *next_ = nullptr;
    int share_ = 0;
    int64_t lines_left_ = 0;
};

}  // namespace kvik
