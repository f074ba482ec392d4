// Which of the builds of the vector loops this machine runs.
#pragma once

namespace avatar {

enum class InstructionSet { portable, avx2, avx512 };

// The best one that was built and that this machine has, or the one that AVATAR_OPS_ISA names, if it is lower.
InstructionSet instruction_set();
const char* name(InstructionSet);

}  // namespace avatar

// Declares the tables of one operator and defines select_kernels(), which returns the one to use.
#if defined(AV_X86)
#define AV_SELECT_KERNELS(Table, table)          \
    namespace avatar {                           \
    namespace portable {                         \
    extern const Table table;                    \
    }                                            \
    namespace avx2 {                             \
    extern const Table table;                    \
    }                                            \
    namespace avx512 {                           \
    extern const Table table;                    \
    }                                            \
    }                                            \
    static const Table& select_kernels() {       \
        switch (avatar::instruction_set()) {     \
            case avatar::InstructionSet::avx512: \
                return avatar::avx512::table;    \
            case avatar::InstructionSet::avx2:   \
                return avatar::avx2::table;      \
            default:                             \
                return avatar::portable::table;  \
        }                                        \
    }
#else
#define AV_SELECT_KERNELS(Table, table) \
    namespace avatar {                  \
    namespace portable {                \
    extern const Table table;           \
    }                                   \
    }                                   \
    static const Table& select_kernels() { return avatar::portable::table; }
#endif
