// Empty on purpose: ProcessGroupGloo.hpp includes it and uses nothing of it; see context.h.
#pragma once
