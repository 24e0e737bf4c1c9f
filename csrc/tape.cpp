#include "tape.h"

#include <stdexcept>
#include <string>

#include "thread_pool.h"

namespace kvik {
namespace {

thread_local Tape* recording_tape = nullptr;

constexpr int64_t kFewRows = 8;  // more have more to compute than to read, and their inputs fill the cache

}  // namespace

Tape* Tape::recording() { return recording_tape; }

void Tape::start() {
    if (recording_tape) throw std::logic_error("this thread records on a tape already; stop that one first");
    recording_tape = this;
}

void Tape::stop() {
    if (recording_tape == this) recording_tape = nullptr;
}

void Tape::append(std::unique_ptr<RecordedCall> call) {
    if (announced_.data)
        for (size_t i = ahead_.size(); i > 0 && !ahead_[i - 1].data; --i) ahead_[i - 1] = announced_;
    announced_ = {};
    ahead_.push_back({});
    calls_.push_back(std::move(call));
}

void Tape::replay(const Counts& counts) const {
    for (size_t i = 0; i < calls_.size(); ++i) {
        const auto& call = calls_[i];
        set_upcoming(counts.num_rows <= kFewRows ? ahead_[i] : Stream{});
        const int64_t bad_row = call->run(counts);
        if (bad_row >= 0)
            throw std::out_of_range(std::string(call->name()) + ": the id of row " + std::to_string(bad_row) +
                                    " lies outside of its table");
    }
}

}  // namespace kvik
