/* A client over libmodbus: does what it is told on one connection and prints what it gets, a line each. */

#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static modbus_t *server;

static void print_bits(const char *name, int count, const uint8_t *bits)
{
    printf("%s:", name);
    if (count < 0)
        printf(" %s", modbus_strerror(errno));
    for (int i = 0; i < count; i++)
        printf(" %d", bits[i]);
    printf("\n");
}

static void print_registers(const char *name, int count, const uint16_t *registers)
{
    printf("%s:", name);
    if (count < 0)
        printf(" %s", modbus_strerror(errno));
    for (int i = 0; i < count; i++)
        printf(" %04x", registers[i]);
    printf("\n");
}

static void print_done(const char *name, int done)
{
    if (done < 0)
        printf("%s: %s\n", name, modbus_strerror(errno));
    else
        printf("%s: %d\n", name, done);
}

static void tables(void)
{
    uint8_t bits[MODBUS_MAX_READ_BITS];
    uint16_t registers[MODBUS_MAX_READ_REGISTERS];
    uint8_t on[1968];
    uint16_t counting[123];

    print_bits("coils", modbus_read_bits(server, 0, 32, bits), bits);
    print_bits("discrete inputs", modbus_read_input_bits(server, 0, 32, bits), bits);
    print_registers("holding registers", modbus_read_registers(server, 0, 3, registers), registers);
    print_registers("input registers", modbus_read_input_registers(server, 102, 4, registers), registers);

    print_done("write coil", modbus_write_bit(server, 34, 1));
    print_bits("coil", modbus_read_bits(server, 34, 1, bits), bits);
    print_done("write register", modbus_write_register(server, 7, 0xC0DE));
    print_registers("register", modbus_read_registers(server, 7, 1, registers), registers);

    memset(on, 1, sizeof on);
    print_done("write 1968 coils", modbus_write_bits(server, 101, 1968, on));
    print_done("read 2000 coils", modbus_read_bits(server, 100, 2000, bits));
    int sum = 0;
    for (int i = 0; i < 2000; i++)
        sum += bits[i];
    print_done("of them on", sum);
    for (int i = 0; i < 123; i++)
        counting[i] = 3 * i;
    print_done("write 123 registers", modbus_write_registers(server, 100, 123, counting));
    print_done("read 125 registers", modbus_read_registers(server, 100, 125, registers));
    print_done("different", memcmp(registers, counting, sizeof counting) != 0);
}

static void rarer_functions(void)
{
    uint16_t registers[MODBUS_MAX_READ_REGISTERS], three[3] = {0x00FF, 0x00FF, 0x00FF};
    uint8_t id[MODBUS_MAX_PDU_LENGTH];

    modbus_write_register(server, 7, 0x12);
    print_done("mask write", modbus_mask_write_register(server, 7, 0xF2, 0x25));
    print_registers("masked", modbus_read_registers(server, 7, 1, registers), registers);
    print_registers(
        "write and read",
        modbus_write_and_read_registers(server, 110, 3, three, 109, 5, registers), registers);
    int size = modbus_report_slave_id(server, sizeof id, id);
    print_done("server id", size);
    if (size > 1)
        printf("says: %.*s, %s\n", size - 1, (char *) id, id[size - 1] ? "running" : "stopped");
}

static void refusals(void)
{
    uint8_t bits[8] = {0};
    uint16_t registers[8] = {0};

    print_registers("a hole", modbus_read_registers(server, 6, 1, registers), registers);
    print_bits("no coil", modbus_read_bits(server, 0x7000, 1, bits), bits);
    print_done("read only", modbus_write_register(server, 0, 1));
    print_done("read only coil", modbus_write_bit(server, 33, 0));
    print_done("half writable", modbus_write_registers(server, 9, 2, registers));
    print_registers("then", modbus_read_registers(server, 0, 1, registers), registers);
}

typedef float (*getter)(const uint16_t *);

/* -0.15625 is given as registers: in libmodbus 3.1.6 modbus_set_float_abcd swaps the bytes of each register
   and modbus_get_float_abcd does not, and so on; only the getters mean what they say in every release. */
static void floats(int argc, char **argv)
{
    static const getter get[] = {modbus_get_float_abcd, modbus_get_float_badc, modbus_get_float_cdab,
                                 modbus_get_float_dcba};
    static const uint16_t coded[][2] = {{0xBE20, 0}, {0x20BE, 0}, {0, 0xBE20}, {0, 0x20BE}};
    static const char *const names[] = {"ABCD", "BADC", "CDAB", "DCBA"};
    uint16_t registers[2];

    for (int order = 0; order < 4 && order < argc; order++) {
        int address = atoi(argv[order]);
        modbus_read_registers(server, address, 2, registers);
        printf("%s: %.9g", names[order], get[order](registers));
        modbus_write_registers(server, address, 2, coded[order]);
        modbus_read_registers(server, address, 2, registers);
        printf(" %.9g\n", get[order](registers));
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    server = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    if (server == NULL || modbus_connect(server) < 0) {
        fprintf(stderr, "%s\n", modbus_strerror(errno));
        return 1;
    }
    modbus_set_slave(server, 1);
    modbus_set_response_timeout(server, 10, 0);
    if (strcmp(argv[1], "tables") == 0)
        tables();
    else if (strcmp(argv[1], "rarer") == 0)
        rarer_functions();
    else if (strcmp(argv[1], "refusals") == 0)
        refusals();
    else if (strcmp(argv[1], "floats") == 0)
        floats(argc - 3, argv + 3);
    modbus_close(server);
    modbus_free(server);
    return 0;
}
