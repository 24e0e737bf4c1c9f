#include "tape.h"

#include <stdexcept>
#include <string>

namespace kvik {
namespace {

thread_local Tape* recording_tape = nullptr;

}  // namespace

Tape* Tape::recording() { return recording_tape; }

void Tape::start() {
    if (recording_tape) throw std::logic_error("this thread records on a tape already; stop that one first");
    recording_tape = this;
}

void Tape::stop() {
    if (recording_tape == this) recording_tape = nullptr;
}

void Tape::replay(const Counts& counts) const {
    for (const auto& call : calls_) {
        const int64_t bad_row = call->run(counts);
        if (bad_row >= 0)
            throw std::out_of_range(std::string(call->name()) + ": the id of row " + std::to_string(bad_row) +
                                    " lies outside of its table");
    }
}

}  // namespace kvik
