# Included by the Makefile. BENCH gives options to bench/run: make bench BENCH="--only small,large"
$(B)/bench/load: $(patsubst %.c,$(B)/obj/%.o,$(wildcard bench/*.c))
	@mkdir -p $(@D)
	$(CC) $(LDHARDEN) -o $@ $^ -lssl -lcrypto
bench: $(PROGRAMS) $(B)/bench/load
	B=$(B) python3 bench/run $(BENCH)
.PHONY: bench
