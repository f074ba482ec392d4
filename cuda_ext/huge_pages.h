// Large fresh memory in large pages: 4 KB pages cost more to fault in than to fill.
#pragma once

#include <cstddef>

namespace avatar {

// A hint for memory that has not been written to yet; does nothing where the system knows no such hint.
void advise_huge_pages(void* memory, size_t bytes);

}  // namespace avatar
