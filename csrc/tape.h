// A tape: the kernel calls of a forward pass, written down once and replayed every step in one call from Python.
//
// While a thread records, an op called in it is appended to the tape instead of being run. At replay each call is made
// again with the arguments that it was recorded with, but for those of a count's type (NumRows, NumRequests,
// BlockTableWidth; table.h), which become the step's. Pointers stay: what differs from step to step is written to the
// same buffers by the caller. A call may be announced with the memory that it reads: with few rows that is what it
// takes its time for, so waiting threads fetch ahead of it. Knows no op by name, and nothing of who owns the memory:
// kernels/tape.py checks that.
#pragma once

#include <cstdint>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "table.h"
#include "upcoming.h"

namespace kvik {

struct Counts {
    int64_t num_rows, num_requests, block_table_width;
};

// One argument of a recorded call, for whoever checks a tape. Every integer and address in use is exact in a double.
struct Argument {
    const char* kind;  // "address", "num_rows", "num_requests", "block_table_width" or "number"
    double value;
};

template <class T>
Argument describe(T argument) {
    if constexpr (std::is_pointer_v<T>) {
        return {"address", static_cast<double>(reinterpret_cast<uintptr_t>(argument))};
    } else if constexpr (std::is_same_v<T, NumRows>) {
        return {"num_rows", static_cast<double>(argument.value)};
    } else if constexpr (std::is_same_v<T, NumRequests>) {
        return {"num_requests", static_cast<double>(argument.value)};
    } else if constexpr (std::is_same_v<T, BlockTableWidth>) {
        return {"block_table_width", static_cast<double>(argument.value)};
    } else {
        return {"number", static_cast<double>(argument)};
    }
}

// What the kernel gets in place of a recorded argument.
template <class T>
KernelArgument<T> at_replay(T recorded, const Counts& counts) {
    if constexpr (std::is_same_v<T, NumRows>) {
        return counts.num_rows;
    } else if constexpr (std::is_same_v<T, NumRequests>) {
        return counts.num_requests;
    } else if constexpr (std::is_same_v<T, BlockTableWidth>) {
        return counts.block_table_width;
    } else {
        return recorded;
    }
}

class RecordedCall {
public:
    explicit RecordedCall(const char* name) : name_(name) {}
    virtual ~RecordedCall() = default;

    const char* name() const { return name_; }
    // The kernel's result, -1 where it has none: -1 is "all is well", else it is the index of the first bad row.
    virtual int64_t run(const Counts& counts) const = 0;
    virtual std::vector<Argument> arguments() const = 0;

private:
    const char* name_;
};

template <class Signature>
class RecordedCallOf;

template <class R, class... A>
class RecordedCallOf<R(A...)> final : public RecordedCall {
public:
    RecordedCallOf(const char* name, Kernel<R(A...)> Table::*op, A... args)
        : RecordedCall(name), op_(op), args_(args...) {}

    int64_t run(const Counts& counts) const override {
        return std::apply(
            [&](const A&... args) -> int64_t {
                if constexpr (std::is_void_v<R>) {
                    (active->*op_)(at_replay(args, counts)...);
                    return -1;
                } else {
                    return (active->*op_)(at_replay(args, counts)...);
                }
            },
            args_);
    }

    std::vector<Argument> arguments() const override {
        return std::apply([](const A&... args) { return std::vector<Argument>{describe(args)...}; }, args_);
    }

private:
    Kernel<R(A...)> Table::*op_;
    std::tuple<A...> args_;
};

class Tape {
public:
    Tape() = default;
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;
    ~Tape() { stop(); }

    // From here to stop() the calling thread's ops go onto this tape. Throws std::logic_error where another records.
    void start();
    void stop();

    // The tape on which the calling thread records, or null.
    static Tape* recording();

    // What the call that is appended next reads.
    void announce(const Stream& stream) { announced_ = stream; }

    void append(std::unique_ptr<RecordedCall> call);

    // Makes all calls in order. Throws std::out_of_range for the first that finds a bad row; the rest is not made then.
    void replay(const Counts& counts) const;

    const std::vector<std::unique_ptr<RecordedCall>>& calls() const { return calls_; }

private:
    std::vector<std::unique_ptr<RecordedCall>> calls_;
    std::vector<Stream> ahead_;  // for each call what the first announced one after it reads
    Stream announced_;
};

}  // namespace kvik
