// All kernels for one instruction set, KVIK_ISA. Compiled once per set, with that set's flags.
#include "simd.h"

#include "ops/batch_rows.h"
#include "ops/dequantize.h"
#include "ops/embedding.h"
#include "ops/gated_activation.h"
#include "ops/linear.h"
#include "ops/logprobs.h"
#include "ops/lora.h"
#include "ops/mask_tokens.h"
#include "ops/paged_attention.h"
#include "ops/quantize.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/sample.h"
#include "table.h"

namespace kvik::KVIK_ISA {

#define KVIK_STRING_(x) #x
#define KVIK_STRING(x) KVIK_STRING_(x)
#define KVIK_OP_ENTRY(name, ...) .name = name,

extern const Table table;
const Table table = {.isa = KVIK_STRING(KVIK_ISA), KVIK_OPS(KVIK_OP_ENTRY)};

}  // namespace kvik::KVIK_ISA
